//! A bare connection to Redis: signed in, and from there on its holder's own. For the one reader that must neither buffer without
//! bound nor pay for a parsed tree with each message, as the crate's pub/sub does.

use super::{address::Node, follow::Followed, trust::Trust};
use crate::Result;
use futures_util::future::BoxFuture;
use redis::{Client, Cmd, ConnectionAddr, ConnectionInfo};
use std::{io, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

/// Connecting and signing in take no longer than this, or the server counts as away.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// The answer to a sign-in is one line.
const ANSWER_BYTES_MAX: usize = 1_024;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Send + Sync> Stream for S {}

/// A connection that speaks RESP2.
pub(crate) struct Wire {
    pub(crate) stream: Pin<Box<dyn Stream>>,
    /// Ends when another server is the one to be connected to.
    pub(crate) left: BoxFuture<'static, ()>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) async fn open(client: &Client, trust: &Trust, left: BoxFuture<'static, ()>) -> Result<Self> {
        let opened = timeout(OPEN_WITHIN, async {
            let info = client.get_connection_info();
            let mut wire = Self { stream: connect(info, trust).await?, left };
            wire.sign_in(info).await?;
            Ok(wire)
        });
        let opened: io::Result<Self> = opened.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        opened.map_err(|error| redis::RedisError::from(error).into())
    }

    async fn sign_in(&mut self, info: &ConnectionInfo) -> io::Result<()> {
        let settings = info.redis_settings();
        let Some(password) = settings.password() else { return Ok(()) };
        let mut auth = Cmd::new();
        auth.arg("AUTH");
        if let Some(username) = settings.username() {
            auth.arg(username);
        }
        self.stream.write_all(&auth.arg(password).get_packed_command()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            if answer.len() > ANSWER_BYTES_MAX || self.stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if answer.starts_with(b"+") { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&answer).trim().to_owned())) }
    }
}

impl Followed {
    /// Opens one to `node`; it is left when that is no master any more.
    pub(super) async fn wire(&self, node: &Node) -> Result<Wire> {
        let (watched, of) = (self.clone(), node.clone());
        let left = Box::pin(async move { watched.left(&of).await });
        Wire::open(&self.client(node)?, &self.trust, left).await.inspect_err(|_| self.doubt())
    }
}

async fn connect(info: &ConnectionInfo, trust: &Trust) -> io::Result<Pin<Box<dyn Stream>>> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => Ok(Box::pin(tcp(host, *port).await?)),
        ConnectionAddr::TcpTls { host, port, insecure: false, .. } => {
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let connector = TlsConnector::from(Arc::new(trust.config()?));
            Ok(Box::pin(connector.connect(name, tcp(host, *port).await?).await?))
        }
        ConnectionAddr::Unix(path) => Ok(Box::pin(UnixStream::connect(path).await?)),
        other @ (ConnectionAddr::TcpTls { .. } | _) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("{other} cannot be listened to")))
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    // Subscribing is many small writes that somebody waits for.
    stream.set_nodelay(true)?;
    Ok(stream)
}
