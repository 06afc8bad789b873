//! One exchange over HTTP/1.1: a connection of its own to an address that was judged, no redirect followed, no proxy, and every part
//! of it bounded.

use super::guard::{Guard, Refused, Target};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method,
    body::{Frame, Incoming},
    client::conn::http1,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};
use tokio_util::task::AbortOnDropHandle;

/// Of an answer's body, what is read; the rest stays with the receiver.
const BODY_MAX: usize = 16 << 10;
/// Longest wait for one address to take the connection, where a host has several.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Largest head of an answer.
const HEAD_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 100;

/// A request on its way.
#[derive(Debug)]
pub struct Request {
    pub target: Target,
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// For all of it, resolving included.
    pub timeout: Duration,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// The beginning of the body, as text.
    pub excerpt: String,
    pub duration: Duration,
}

/// An answer whose body is still to come. Dropped, its connection ends, and the other side hears it.
#[derive(Debug)]
pub struct Opened {
    pub status: u16,
    pub headers: HeaderMap,
    body: Incoming,
    /// Brings the body.
    _connection: AbortOnDropHandle<()>,
}

impl Opened {
    /// The next bytes, as they come; `None` at the end. What is dropped before it is done has taken nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SendError> {
        loop {
            match self.body.frame().await.transpose().map_err(SendError::Broken)?.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(data)) if !data.is_empty() => return Ok(Some(data)),
                Some(Ok(_) | Err(_)) => {}
            }
        }
    }
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("the address {0}")]
    Refused(Refused),
    #[error("nothing came back within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the connection failed: {0}")]
    Connect(io::Error),
    #[error("the exchange broke off: {0}")]
    Broken(hyper::Error),
}

impl SendError {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.code(),
            Self::Timeout(_) => "http_timeout",
            Self::Connect(_) => "http_connect",
            Self::Broken(_) => "http_broken",
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Sends requests; clones share what it costs to begin.
#[derive(Clone)]
pub struct Outbound {
    guard: Guard,
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl Outbound {
    pub fn new(guard: Guard) -> Self {
        Self { guard, tls: Arc::default() }
    }

    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    pub async fn send(&self, request: Request) -> Result<Answer, SendError> {
        let (began, patience) = (Instant::now(), request.timeout);
        let exchange = async {
            let addresses = self.guard.resolve(&request.target).await.map_err(SendError::Refused)?;
            let stream = self.connect(&request.target, &addresses).await.map_err(SendError::Connect)?;
            let (status, headers, excerpt) = exchange(stream, request).await.map_err(SendError::Broken)?;
            Ok(Answer { status, headers, excerpt, duration: began.elapsed() })
        };
        timeout(patience, exchange).await.map_err(|_| SendError::Timeout(patience))?
    }

    /// The same up to the head of the answer; its body is read as it comes, in no set time and without end.
    pub async fn open(&self, request: Request) -> Result<Opened, SendError> {
        let patience = request.timeout;
        let opening = async {
            let addresses = self.guard.resolve(&request.target).await.map_err(SendError::Refused)?;
            let stream = self.connect(&request.target, &addresses).await.map_err(SendError::Connect)?;
            open(stream, request).await.map_err(SendError::Broken)
        };
        timeout(patience, opening).await.map_err(|_| SendError::Timeout(patience))?
    }

    /// To the first address that answers.
    async fn connect(&self, target: &Target, addresses: &[SocketAddr]) -> io::Result<Box<dyn Stream>> {
        let mut last = io::Error::other("there is no address");
        for address in addresses {
            match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return if target.is_tls() { self.encrypt(target, stream).await } else { Ok(Box::new(stream)) };
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    async fn encrypt(&self, target: &Target, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        let config = Arc::clone(self.tls.get_or_init(|| Arc::new(client_config())));
        let host = target.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
    }
}

/// The machine's certificate authorities.
pub(crate) fn client_config() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn bounded() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    builder
}

async fn open(stream: Box<dyn Stream>, request: Request) -> Result<Opened, hyper::Error> {
    let (mut sender, connection) = bounded().handshake(TokioIo::new(stream)).await?;
    // What it fails of, the answer and its body fail of as well.
    let connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let (parts, body) = sender.send_request(into_http(request)).await?.into_parts();
    Ok(Opened { status: parts.status.as_u16(), headers: parts.headers, body, _connection: connection })
}

async fn exchange(stream: Box<dyn Stream>, request: Request) -> Result<(u16, HeaderMap, String), hyper::Error> {
    let (mut sender, connection) = bounded().handshake(TokioIo::new(stream)).await?;
    let answered = async {
        let response = sender.send_request(into_http(request)).await?;
        let (parts, body) = response.into_parts();
        Ok((parts.status.as_u16(), parts.headers, beginning(body).await))
    };
    tokio::pin!(connection);
    tokio::pin!(answered);
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        ended = &mut connection => {
            ended?;
            answered.await
        }
    }
}

fn into_http(request: Request) -> hyper::Request<Full<Bytes>> {
    let url = request.target.url();
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let host = url.port().map_or_else(|| request.target.host().to_owned(), |port| format!("{}:{port}", request.target.host()));
    let mut http = hyper::Request::new(Full::new(request.body));
    *http.method_mut() = request.method;
    *http.uri_mut() = path.parse().expect("the path of a parsed URL is one");
    *http.headers_mut() = request.headers;
    http.headers_mut().insert(header::HOST, HeaderValue::from_str(&host).expect("the host of a parsed URL is ASCII"));
    http.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    http
}

/// What came of the body before it was enough or broke off: the status has been said.
async fn beginning(mut body: Incoming) -> String {
    let mut read = Vec::new();
    while read.len() < BODY_MAX {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Ok(data) = frame.into_data() {
            let n = data.len().min(BODY_MAX - read.len());
            read.extend_from_slice(&data[..n]);
        }
    }
    String::from_utf8_lossy(&read).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests;
