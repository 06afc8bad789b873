//! HTTP on one worker thread, with a way out: a request that wants a WebSocket goes through the same site as any other, and if
//! it is let in, its connection leaves the HTTP server for good, with whatever that kept for it.

use super::{
    count_connection,
    sips::Sips,
    telling::{Telling, Unsent},
};
use crate::socket::upgrade::Ticket;
use actix_codec::{Framed, FramedParts};
use actix_http::{
    ConnectionType, HttpMessage, HttpService, Protocol, Request, Response,
    body::{BodySize, BoxBody, MessageBody},
    error::DispatchError,
    h1::{Codec, Message},
};
use actix_server::GracefulShutdownSignal;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service};
use actix_web::{
    Error,
    dev::{AppConfig, ServiceResponse},
    rt::net::TcpStream,
};
use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use shared::config::Settings;
use std::{
    cell::OnceCell,
    future::{self, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_util::codec::Encoder;

/// How long a client that was refused has to take the answer, and one that is sent away to go.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a client has to take an answer, or a piece of a long one. A socket's deadlines begin behind it: who asked for much before, and reads
/// none of it, would have a socket's place for good.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// Serves `site` over HTTP/1.1, on the thread that this is called on.
pub(super) fn http<I, F, S, B>(
    site: I,
    settings: &Settings,
    unsent: &Arc<Unsent>,
    stopping: GracefulShutdownSignal,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<I, F, S, B>
where
    I: IntoServiceFactory<F, Request>,
    F: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = Error, InitError = (), Service = S> + 'static,
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    let (site, once) = (Rc::new(site.into_factory()), Rc::new(Once::new()));
    let takeovers = Takeovers { site: Rc::clone(&once) };
    let made_once = fn_factory(move || {
        let (making, once) = (site.new_service(AppConfig::default()), Rc::clone(&once));
        async move {
            let site = Rc::new(making.await?);
            // A thread makes its site once.
            let _ = once.set(Rc::clone(&site));
            Ok::<_, ()>(site)
        }
    });
    let http = HttpService::build()
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        .keep_alive(Duration::from_secs(settings.api_keep_alive_s))
        .client_request_timeout(Duration::from_secs(settings.api_client_timeout_s))
        .client_disconnect_timeout(GOODBYE)
        .on_connect_ext(|connection: &Sips, data| {
            data.insert(connection.tap());
            data.insert(connection.turn());
            count_connection(connection.stream(), data);
        })
        .upgrade(takeovers)
        .finish(made_once);
    let (head_within, taken_within) =
        (Duration::from_secs(settings.api_client_timeout_s), Duration::from_secs(settings.api_send_timeout_s));
    let head_max_bytes = settings.api_head_max_bytes.0;
    let unsent = Arc::clone(unsent);
    let opened = fn_service(move |stream: TcpStream| {
        // A socket's second answer would wait for the client to acknowledge the first, which takes clients 40 ms. A client that is gone again is
        // found out by reading.
        drop(stream.set_nodelay(true));
        let peer = stream.peer_addr().ok();
        let telling = Telling::new(taken_within, Arc::clone(&unsent));
        future::ready(Ok((Sips::new(stream, head_within, head_max_bytes, telling), Protocol::Http1, peer)))
    });
    opened.and_then(http)
}

/// The site, once the thread has made it.
type Once<S> = OnceCell<Rc<S>>;

/// Serves connections whose request wants another protocol.
struct Takeovers<S> {
    site: Rc<Once<S>>,
}

impl<S> Clone for Takeovers<S> {
    fn clone(&self) -> Self {
        Self { site: Rc::clone(&self.site) }
    }
}

type Upgraded = (Request, Framed<Sips, Codec>);

impl<S, B> ServiceFactory<Upgraded> for Takeovers<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = Error;
    type Config = ();
    type Service = Self;
    type InitError = ();
    type Future = std::future::Ready<Result<Self, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        std::future::ready(Ok(self.clone()))
    }
}

impl<S, B> Service<Upgraded> for Takeovers<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<(), Error>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, (request, framed): Upgraded) -> Self::Future {
        let site = Rc::clone(self.site.get().expect("a thread serves when its site is made"));
        Box::pin(async move {
            // Nobody is left to hear what becomes of a connection that breaks here.
            drop(take_over(&*site, request, framed.into_parts()).await);
            Ok(())
        })
    }
}

/// Has the site answer. If it lets the client in, the connection is handed over; else the answer is its last.
async fn take_over<S, B>(site: &S, request: Request, parts: FramedParts<Sips, Codec>) -> io::Result<()>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let FramedParts { mut io, mut codec, read_buf, write_buf, .. } = parts;
    let ticket = Ticket::default();
    request.extensions_mut().insert(ticket.clone());
    let response = match site.call(request).await {
        Ok(response) => Response::from(response).map_into_boxed_body(),
        Err(error) => Response::<BoxBody>::from(error),
    };
    match ticket.opening() {
        Some(opening) => {
            let mut answer = encode(&mut codec, write_buf, response.drop_body(), BodySize::None)?;
            write(&mut io, &mut answer, TAKEN_WITHIN).await?;
            let (stream, behind) = io.into_parts();
            opening.begin(stream, early(&read_buf, &behind));
            Ok(())
        }
        None => {
            refuse(&mut io, &mut codec, write_buf, response).await?;
            part(&mut io.into_parts().0).await
        }
    }
}

/// What came behind the request, in a buffer of its size.
fn early(read: &[u8], behind: &[u8]) -> Bytes {
    [read, behind].concat().into()
}

/// Appends the head of an answer to what is not written yet.
fn encode(codec: &mut Codec, mut unwritten: BytesMut, head: Response<()>, size: BodySize) -> io::Result<BytesMut> {
    codec.encode(Message::Item((head, size)), &mut unwritten)?;
    Ok(unwritten)
}

async fn refuse(io: &mut Sips, codec: &mut Codec, unwritten: BytesMut, response: Response<BoxBody>) -> io::Result<()> {
    let (mut head, body) = response.into_parts();
    head.head_mut().set_connection_type(ConnectionType::Close);
    let mut unwritten = encode(codec, unwritten, head, body.size())?;
    let mut body = pin!(body);
    while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
        codec.encode(Message::Chunk(Some(chunk.map_err(|error| io::Error::other(error.to_string()))?)), &mut unwritten)?;
        write(io, &mut unwritten, TAKEN_WITHIN).await?;
    }
    codec.encode(Message::Chunk(None), &mut unwritten)?;
    write(io, &mut unwritten, TAKEN_WITHIN).await
}

async fn write(io: &mut (impl AsyncWrite + Unpin), bytes: &mut BytesMut, within: Duration) -> io::Result<()> {
    timeout(within, io.write_all_buf(bytes)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Ends the connection so that its last answer arrives: with input unread, it might not.
async fn part(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut leftovers = [0; 1_024];
    let gone = async { while matches!(stream.read(&mut leftovers).await, Ok(1..)) {} };
    // Who does not go is left.
    let _ = timeout(GOODBYE, gone).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::rt::net::TcpListener;

    #[tokio::test]
    async fn who_takes_no_answer_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        // More than the system keeps for both of them.
        let mut much = BytesMut::zeroed(64 << 20);
        assert_eq!(write(&mut stream, &mut much, Duration::from_millis(10)).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
