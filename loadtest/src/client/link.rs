//! One keep-alive connection: sends a request, reads its response, and connects again when the
//! server has closed.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Sleep;

use super::response::{BodyRule, Malformed, Response, ResponseParser};

/// Read buffer shared by all connections of a thread: a read is parsed before the next begins,
/// so 20,000 connections need one buffer and it stays in cache.
#[derive(Debug)]
pub(crate) struct Scratch(RefCell<Box<[u8]>>);

impl Scratch {
    const SIZE_BYTES: usize = 64 * 1024;

    pub(crate) fn new() -> Self {
        Self(RefCell::new(vec![0; Self::SIZE_BYTES].into_boxed_slice()))
    }
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no response in time")]
    Timeout,
    #[error("the connection broke: {0}")]
    Closed(io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

#[derive(Debug)]
pub(crate) struct Link {
    peer: SocketAddr,
    /// Address to connect from; None leaves it to the kernel.
    source: Option<IpAddr>,
    stream: Option<TcpStream>,
    parser: ResponseParser,
    rule: BodyRule,
    deadline: Deadline,
    connects: u64,
}

impl Link {
    /// A link that connects when it is first used; needs a running tokio runtime.
    pub(crate) fn new(peer: SocketAddr, source: Option<IpAddr>, rule: BodyRule, timeout: Duration) -> Self {
        Self { peer, source, stream: None, parser: ResponseParser::new(rule), rule, deadline: Deadline::new(timeout), connects: 0 }
    }

    /// Connections made after the first.
    pub(crate) fn reconnects(&self) -> u64 {
        self.connects.saturating_sub(1)
    }

    /// Connects unless a usable connection is there.
    pub(crate) async fn connect(&mut self) -> Result<(), Failure> {
        if self.stream.as_ref().is_some_and(is_open) {
            return Ok(());
        }
        self.stream = None;
        self.deadline.start(Instant::now());
        let attempt = open_stream(self.peer, self.source);
        let stream = match tokio::time::timeout(self.deadline.limit, attempt).await {
            Ok(opened) => opened.map_err(Failure::Connect)?,
            Err(_) => return Err(Failure::Connect(io::ErrorKind::TimedOut.into())),
        };
        self.parser = ResponseParser::new(self.rule);
        self.stream = Some(stream);
        self.connects += 1;
        Ok(())
    }

    /// Sends `request` and reads its response, whose body bytes go to `sink`.
    pub(crate) async fn exchange(&mut self, request: &[u8], scratch: &Scratch, mut sink: impl FnMut(&[u8])) -> Result<Response, Failure> {
        self.connect().await?;
        self.deadline.start(Instant::now());
        let mut n_sent = 0;
        let outcome = poll_fn(|cx| self.poll_exchange(cx, request, &mut n_sent, scratch, &mut sink)).await;
        if !matches!(&outcome, Ok(response) if response.keep_alive) {
            self.stream = None;
        }
        outcome
    }

    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        request: &[u8],
        n_sent: &mut usize,
        scratch: &Scratch,
        sink: &mut impl FnMut(&[u8]),
    ) -> Poll<Result<Response, Failure>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(Failure::Closed(io::ErrorKind::NotConnected.into())));
        };
        let step = match poll_write_all(stream, cx, request, n_sent) {
            Poll::Ready(Ok(())) => poll_response(stream, &mut self.parser, cx, scratch, sink),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::Closed(error))),
            Poll::Pending => Poll::Pending,
        };
        if step.is_pending() {
            ready!(self.deadline.poll(cx));
            return Poll::Ready(Err(Failure::Timeout));
        }
        step
    }
}

fn poll_write_all(stream: &mut TcpStream, cx: &mut Context<'_>, request: &[u8], n_sent: &mut usize) -> Poll<io::Result<()>> {
    while *n_sent < request.len() {
        match ready!(Pin::new(&mut *stream).poll_write(cx, &request[*n_sent..]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n_written => *n_sent += n_written,
        }
    }
    Poll::Ready(Ok(()))
}

fn poll_response(
    stream: &mut TcpStream,
    parser: &mut ResponseParser,
    cx: &mut Context<'_>,
    scratch: &Scratch,
    sink: &mut impl FnMut(&[u8]),
) -> Poll<Result<Response, Failure>> {
    let mut scratch = scratch.0.borrow_mut();
    loop {
        let mut buffer = ReadBuf::new(&mut scratch);
        match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
            Err(error) => return Poll::Ready(Err(Failure::Closed(error))),
            Ok(()) if buffer.filled().is_empty() => {
                return Poll::Ready(
                    parser.end_of_stream().map_err(|truncated| Failure::Closed(io::Error::new(io::ErrorKind::UnexpectedEof, truncated))),
                );
            }
            Ok(()) => {
                if let Some(response) = parser.feed(buffer.filled(), sink)? {
                    return Poll::Ready(Ok(response));
                }
            }
        }
    }
}

/// False once the server has closed. Reads only what tokio already knows, without a system call,
/// unless the socket is readable: which between responses means closed or out of step.
fn is_open(stream: &TcpStream) -> bool {
    let probe = stream.try_read(&mut [0]);
    matches!(probe, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

async fn open_stream(peer: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = match peer {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = source {
        // Lets the kernel hand out a port whose last connection is still in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(peer).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A timeout that costs nothing per request: the timer is set again only when it fires early,
/// about once per `limit`, not at each start.
#[derive(Debug)]
struct Deadline {
    limit: Duration,
    at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    fn new(limit: Duration) -> Self {
        Self { limit, at: Instant::now() + limit, timer: Box::pin(tokio::time::sleep(limit)) }
    }

    fn start(&mut self, now: Instant) {
        self.at = now + self.limit;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= self.at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at.into());
        }
    }
}
