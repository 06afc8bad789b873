//! A connection that is read as far as it is wanted. The HTTP server by itself reads on for as long as something is there: up to 128 KiB
//! ahead of a body that nobody takes, twice over and in buffers that double as they grow, so that each upload that waits for its turn would hold
//! 400 KiB; and of requests that come many at once it makes a queue of requests, 5 KB each. Here it gets one head at a time, and what is behind waits.
//! Of a large body it gets a sip, and after the first none until somebody wants more. Forms come in sips to their end: uploads
//! are long and many, and the buffers of the connection would grow to what it gets at once, and stay. Other bodies are short and read in gulps.

mod grown;
mod requests;
mod tap;

pub use self::grown::Grown;
pub(super) use self::requests::{GULP_BYTES, begin};
use self::tap::Tap;
use super::{
    deadlines::Hearing,
    ends::{ChunksEnd, End, HeadEnd},
    pacing::{Pace, Turn},
    telling::Telling,
};
use actix_codec::{AsyncRead, AsyncWrite, ReadBuf};
use actix_web::rt::net::TcpStream;
use bytes::{Buf, Bytes};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// The server makes room where less than this is left of its buffer.
const MOVES_BELOW_BYTES: usize = 1 << 10;
/// Also the server has no more than a status for what it cannot read.
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

pub(super) struct Sips {
    stream: TcpStream,
    tap: Tap,
    pace: Pace,
    n_left: usize,
    head_end: HeadEnd,
    /// The HTTP server would keep 128 KiB of one that does not end.
    head_max_bytes: usize,
    chunks_end: ChunksEnd,
    /// Was read with what is in front of it, and is not for now.
    behind: Bytes,
    hearing: Hearing,
    telling: Telling,
}

impl Sips {
    /// The client has `head_within` for the head of a request, which may have `head_max_bytes`.
    pub(super) fn new(stream: TcpStream, head_within: Duration, head_max_bytes: usize, telling: Telling) -> Self {
        let tap = Tap::default();
        Self {
            stream,
            n_left: tap.n_at_once(),
            tap,
            pace: Pace::default(),
            head_end: HeadEnd::default(),
            head_max_bytes,
            chunks_end: ChunksEnd::default(),
            behind: Bytes::new(),
            hearing: Hearing::new(head_within),
            telling,
        }
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

    /// The connection, and what was read of it but not by the server.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.behind)
    }

    /// Whether something is there that may not be read yet, or the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.behind.has_remaining() {
            return Poll::Ready(Ok(true));
        }
        let n_there = ready!(self.stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])))?;
        Poll::Ready(Ok(n_there > 0))
    }

    /// Reads `n_bytes` at most, and nothing behind what is wanted. At the end of its buffer the server gets so little of a head that it moves to the
    /// front of it for the rest: otherwise it would get a larger one, and keep that.
    fn poll_some(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>, n_bytes: usize) -> Poll<io::Result<()>> {
        let n_until_it_moves = buffer.remaining().saturating_sub(MOVES_BELOW_BYTES - 1);
        let is_near_its_end = (1..MOVES_BELOW_BYTES).contains(&n_until_it_moves) && self.tap.heads().are_idle();
        let n_bytes = n_bytes.min(if is_near_its_end { n_until_it_moves } else { buffer.remaining() });
        if self.behind.has_remaining() {
            let there = self.behind.slice(..n_bytes.min(self.behind.len()));
            let n_before_end = self.n_before_end(&there);
            buffer.put_slice(&there[..n_before_end]);
            self.behind.advance(n_before_end);
            return Poll::Ready(Ok(()));
        }
        let n_before = buffer.filled().len();
        ready!(self.poll_stream(cx, buffer, n_bytes))?;
        let there = &buffer.filled()[n_before..];
        let n_before_end = self.n_before_end(there);
        self.behind = Bytes::copy_from_slice(&there[n_before_end..]);
        buffer.set_filled(n_before + n_before_end);
        Poll::Ready(Ok(()))
    }

    /// How many of `bytes`, which are there next, belong to what is wanted.
    fn n_before_end(&mut self, bytes: &[u8]) -> usize {
        if !self.tap.heads().are_answering() {
            return self.head_end.n_before(bytes);
        }
        if !self.tap.is_in_chunks() {
            return bytes.len();
        }
        let n_before = self.chunks_end.n_before(bytes);
        if self.chunks_end.is_found() {
            self.tap.has_ended();
        }
        n_before
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>, n_bytes: usize) -> Poll<io::Result<()>> {
        if n_bytes == buffer.remaining() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let mut some = ReadBuf::new(buffer.initialize_unfilled_to(n_bytes));
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut some);
        let n_read = some.filled().len();
        buffer.advance(n_read);
        read
    }
}

impl AsyncRead for Sips {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.telling.poll_taken(cx).is_pending() {
            this.tap.heads().put_off();
            return Poll::Pending;
        }
        if this.hearing.is_over(this.tap.heads(), cx) {
            // As if the client had said its last: what is whole is answered, and the connection ends.
            return Poll::Ready(Ok(()));
        }
        if this.tap.poll_open(cx).is_pending() || this.pace.poll_turn(cx).is_pending() {
            this.n_left = this.tap.n_at_once();
            return Poll::Pending;
        }
        if this.tap.heads().are_idle() {
            (this.head_end, this.chunks_end) = (HeadEnd::default(), ChunksEnd::default());
        }
        let n_wanted = this.tap.n_wanted();
        this.n_left = this.n_left.min(this.tap.n_at_once());
        if n_wanted == 0 || this.n_left == 0 {
            this.n_left = this.tap.n_at_once();
            let is_end = !ready!(this.poll_more(cx))?;
            if is_end && !(n_wanted == 0 && this.tap.keeps_the_end()) {
                return Poll::Ready(Ok(()));
            }
            if n_wanted == 0 {
                this.tap.wake_when_wanted(cx);
            } else {
                // What is there is looked at first, which may close the tap.
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let n_before = buffer.filled().len();
        let read = this.poll_some(cx, buffer, n_wanted.min(this.n_left));
        this.pace.looked(read.is_ready());
        let Poll::Ready(read) = read else {
            this.n_left = this.tap.n_at_once();
            return Poll::Pending;
        };
        if !this.tap.heads().are_answering() && this.head_end.n_bytes() > this.head_max_bytes && !this.tap.is_ending() {
            // Nothing else is being told: a head is read when the answer before was taken.
            drop(this.stream.try_write(TOO_LARGE));
            buffer.set_filled(n_before);
            return Poll::Ready(Ok(()));
        }
        let n_read = buffer.filled().len() - n_before;
        this.tap.has_read(n_read);
        this.n_left = if this.head_end.is_found() && !this.tap.heads().are_answering() { 0 } else { this.n_left.saturating_sub(n_read) };
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
