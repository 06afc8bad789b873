//! A connection whose large bodies are read when they are asked for. The HTTP server by itself reads on for as long as something is there, up to 128 KiB
//! ahead of a body that nobody takes, twice over and in buffers that double as they grow: each upload that waits for its turn would hold
//! 400 KiB. Here it gets a sip at a time, and after the first none until somebody wants more of the body. Forms come in sips to their end: uploads
//! are long and many, and the buffers of the connection would grow to what it gets at once, and stay. Other bodies are short and read in gulps.

use super::{
    deadlines::{Heads, Hearing},
    pacing::{Pace, Turn},
    telling::Telling,
};
use actix_codec::{AsyncRead, AsyncWrite, ReadBuf};
use actix_web::{
    Error, HttpMessage,
    body::{BodySize, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    error::PayloadError,
    http::header,
    rt::{net::TcpStream, task::yield_now},
};
use bytes::Bytes;
use futures_util::Stream;
use std::{
    cell::{Cell, RefCell},
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// As much as the server gets at once: its own buffer, which does not have to grow then, and is kept for as long as the connection.
const SIP_BYTES: usize = 8 << 10;
/// As much of a body that is no form, when it is asked for.
const GULP_BYTES: usize = 128 << 10;
/// The server makes room where less than this is left of its buffer.
const MOVES_BELOW_BYTES: usize = 1 << 10;
/// A body that is not larger is read without being asked for.
const SMALL_BYTES: usize = 32 << 10;

/// The head of `request` is there. Has its connection wait with the body, if that is large, until it is asked for.
pub(super) fn begin(request: &mut ServiceRequest) -> Begun {
    let Some(tap) = request.conn_data::<Tap>().cloned() else { return Begun::default() };
    tap.begin_request();
    let headers = request.headers();
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let is_in_chunks = headers.contains_key(header::TRANSFER_ENCODING);
    if is_in_chunks || announced.is_some_and(|length| length > SMALL_BYTES) {
        let is_form = headers.get(header::CONTENT_TYPE).is_some_and(|content_type| content_type.as_bytes().starts_with(b"multipart/"));
        let n_at_once = if is_form { SIP_BYTES } else { GULP_BYTES };
        tap.close();
        let body = request.take_payload();
        request.set_payload(Payload::Stream { payload: Box::pin(OnDemand { body, tap: tap.clone(), n_at_once, has_ended: false }) });
    }
    Begun { tap: Some(tap), has_body: is_in_chunks || announced.is_some_and(|length| length > 0) }
}

/// A request whose head was read.
#[derive(Debug, Default)]
pub(super) struct Begun {
    tap: Option<Tap>,
    has_body: bool,
}

impl Begun {
    /// Answers it. The server looks for a body in what it has read only when a request has to wait, and closes the connection behind the answer to
    /// one whose body it has not seen: each that is refused by its head, or shed, would cost its client the connection.
    pub(super) async fn answer<B>(
        self,
        answering: impl Future<Output = Result<ServiceResponse<B>, Error>>,
    ) -> Result<ServiceResponse<Answer<B>>, Error> {
        if self.has_body {
            yield_now().await;
        }
        let until_told = UntilTold(self.tap);
        Ok(answering.await?.map_body(|_, body| Answer { body, _until_told: until_told }))
    }
}

/// The body of an answer.
pub(super) struct Answer<B> {
    body: B,
    _until_told: UntilTold,
}

impl<B: MessageBody + Unpin> MessageBody for Answer<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// Only when the server has all of an answer, what is read belongs to the next request: one that comes earlier has to wait. An error's answer is
/// written from what comes back to the server, all at once.
struct UntilTold(Option<Tap>);

impl Drop for UntilTold {
    fn drop(&mut self) {
        if let Some(tap) = &self.0 {
            tap.0.heads.answered();
        }
    }
}

/// Whether a connection is read from; shared with the body that comes over it.
#[derive(Debug, Clone, Default)]
pub(super) struct Tap(Rc<TapState>);

struct TapState {
    closed: Cell<bool>,
    n_at_once: Cell<usize>,
    reader: RefCell<Option<Waker>>,
    /// A body that nobody took to its end.
    unread: RefCell<Payload>,
    heads: Heads,
}

impl Default for TapState {
    fn default() -> Self {
        Self {
            closed: Cell::new(false),
            n_at_once: Cell::new(SIP_BYTES),
            reader: RefCell::default(),
            unread: RefCell::new(Payload::None),
            heads: Heads::default(),
        }
    }
}

impl fmt::Debug for TapState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapState").field("closed", &self.closed).field("n_at_once", &self.n_at_once).finish_non_exhaustive()
    }
}

impl Tap {
    fn close(&self) {
        self.0.closed.set(true);
    }

    fn open(&self, n_at_once: usize) {
        self.0.closed.set(false);
        self.0.n_at_once.set(n_at_once);
        if let Some(reader) = self.0.reader.take() {
            reader.wake();
        }
    }

    /// Keeps what is left of a body until the connection has its next request or is gone. The server closes the connection behind an answer to
    /// a body that is not all there; but one in chunks that nobody has any more it would read for as long as something comes, or might.
    fn keep(&self, unread: Payload) {
        self.0.unread.replace(unread);
    }

    fn begin_request(&self) {
        self.0.unread.replace(Payload::None);
        self.0.heads.came();
    }

    /// Whether the reader may go on; it is woken when it may.
    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.0.closed.get() {
            return Poll::Ready(());
        }
        self.0.reader.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// A body that opens the tap while it is asked for more, and for good when nobody has it any more: what is left of a short one must be read to
/// reach what comes behind.
struct OnDemand {
    body: Payload,
    tap: Tap,
    n_at_once: usize,
    has_ended: bool,
}

impl Stream for OnDemand {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = Pin::new(&mut self.body).poll_next(cx);
        match &chunk {
            Poll::Ready(Some(_)) => self.tap.close(),
            Poll::Ready(None) | Poll::Pending => self.tap.open(self.n_at_once),
        }
        self.has_ended |= matches!(chunk, Poll::Ready(None | Some(Err(_))));
        chunk
    }
}

impl Drop for OnDemand {
    fn drop(&mut self) {
        if !self.has_ended {
            self.tap.keep(self.body.take());
        }
        self.tap.open(SIP_BYTES);
    }
}

pub(super) struct Sips {
    stream: TcpStream,
    tap: Tap,
    pace: Pace,
    n_left: usize,
    hearing: Hearing,
    telling: Telling,
}

impl Sips {
    /// The client has `head_within` for the head of a request.
    pub(super) fn new(stream: TcpStream, head_within: Duration, telling: Telling) -> Self {
        let hearing = Hearing::new(head_within);
        Self { stream, tap: Tap::default(), pace: Pace::default(), n_left: SIP_BYTES, hearing, telling }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn tap(&self) -> Tap {
        self.tap.clone()
    }

    pub(super) fn turn(&self) -> Turn {
        self.pace.turn()
    }

    /// At the end of its buffer the server gets so little of a request that it moves to the front of it for the rest: otherwise it would get a larger
    /// one, and keep that.
    fn poll_some(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n_until_it_moves = buffer.remaining().saturating_sub(MOVES_BELOW_BYTES - 1);
        if n_until_it_moves >= MOVES_BELOW_BYTES || n_until_it_moves == 0 || !self.tap.0.heads.are_idle() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let mut some = ReadBuf::new(buffer.initialize_unfilled_to(n_until_it_moves));
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut some);
        let n_read = some.filled().len();
        buffer.advance(n_read);
        read
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for Sips {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.telling.poll_taken(cx).is_pending() {
            this.tap.0.heads.put_off();
            return Poll::Pending;
        }
        if this.hearing.is_over(&this.tap.0.heads, cx) {
            // As if the client had said its last: what is whole is answered, and the connection ends.
            return Poll::Ready(Ok(()));
        }
        if this.tap.poll_open(cx).is_pending() || this.pace.poll_turn(cx).is_pending() {
            this.n_left = this.tap.0.n_at_once.get();
            return Poll::Pending;
        }
        if this.n_left == 0 {
            // What is there is looked at first, which may close the tap.
            this.n_left = this.tap.0.n_at_once.get();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n_before = buffer.filled().len();
        let read = this.poll_some(cx, buffer);
        this.pace.looked(read.is_ready());
        let Poll::Ready(read) = read else {
            this.n_left = this.tap.0.n_at_once.get();
            return Poll::Pending;
        };
        let n_read = buffer.filled().len() - n_before;
        if n_read > 0 {
            this.tap.0.heads.has_read();
        }
        this.n_left = this.n_left.saturating_sub(n_read);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Sips {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.telling.wrote(bytes.len(), written, cx)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.telling.wrote(bytes.iter().map(|bytes| bytes.len()).sum(), written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
