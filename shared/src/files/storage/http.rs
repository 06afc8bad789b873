//! How the S3-compatible store is reached: HTTP/1.1 over kept connections, with the machine's certificate authorities, no proxy, no redirect, and
//! no silence that lasts.

use crate::outbound::client::client_config;
use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector as TcpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use object_store::{
    ClientOptions, Error as StoreError,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
    },
};
use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep, timeout};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the head of an answer is there, the sending of a part included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest silence within an answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Connections that are kept when nothing is asked, and for how long.
const IDLE_MAX: usize = 8;
const IDLE_FOR: Duration = Duration::from_secs(60);

/// Makes clients.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> Result<HttpClient, StoreError> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        // The builder names the protocol itself.
        let mut tls = client_config();
        tls.alpn_protocols.clear();
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_FOR)
            .pool_timer(TokioTimer::new())
            .build(https);
        Ok(HttpClient::new(Client(client)))
    }
}

#[derive(Debug)]
struct Client(legacy::Client<HttpsConnector<TcpConnector>, HttpRequestBody>);

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let silence = |elapsed| HttpError::new(HttpErrorKind::Timeout, elapsed);
        let answer = timeout(ANSWER_TIMEOUT, self.0.request(request)).await.map_err(silence)?;
        let (head, body) = answer.map_err(|error| HttpError::new(kind_of_request(&error), error))?.into_parts();
        let body = Answer { body, silence: Box::pin(sleep(SILENCE_MAX)) };
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

/// What may be tried again: the client of the store asks by it.
fn kind_of_request(error: &legacy::Error) -> HttpErrorKind {
    if error.is_connect() {
        return HttpErrorKind::Connect;
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    cause.map_or(HttpErrorKind::Unknown, kind_of)
}

fn kind_of(error: &hyper::Error) -> HttpErrorKind {
    if error.is_closed() || error.is_incomplete_message() || error.is_canceled() {
        return HttpErrorKind::Request;
    }
    let is_broken = |cause: &io::Error| {
        matches!(cause.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe)
    };
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    if cause.is_some_and(is_broken) { HttpErrorKind::Interrupted } else { HttpErrorKind::Unknown }
}

/// A body that ends with an error when nothing of it comes for too long.
struct Answer {
    body: Incoming,
    silence: Pin<Box<Sleep>>,
}

#[derive(Debug)]
struct Silent;

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer broke off")
    }
}

impl Error for Silent {}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
                Poll::Ready(frame.map(|frame| frame.map_err(|error| HttpError::new(kind_of(&error), error))))
            }
            Poll::Pending => {
                let too_long = self.silence.as_mut().poll(cx);
                too_long.map(|()| Some(Err(HttpError::new(HttpErrorKind::Timeout, Silent))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
