//! From received bytes to commands, strictly one after the other: while one waits for something, nothing further is read,
//! and the sender is held up by TCP.

use super::{Connection, Phase};
use crate::socket::{
    frames::{self, Incoming, Reader},
    limits::Allowed,
    protocol::close,
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use memchr::memchr;
use std::{
    fmt, io, mem,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    task::{Context, Poll, ready},
};

/// A command that is being carried out.
pub(super) type Work = LocalBoxFuture<'static, ()>;

/// Whoever does the I/O of a connection owns its driver.
pub(in crate::socket) struct Driver {
    pub(in crate::socket) connection: Rc<Connection>,
    reader: Reader,
    /// The message whose commands are being carried out; empty between messages.
    message: Vec<u8>,
    /// How much of it has been.
    n_done: usize,
    work: Option<Work>,
    peer: Peer,
}

/// What is left to expect from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Talks,
    SaidGoodbye,
    /// It broke the rules of frames, so that nothing it sends can be told apart any more.
    Garbles,
}

/// How a [`Driver::step`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::socket) enum Step {
    /// There may be more to do, or to write.
    Progress,
    /// A command waits; its end wakes the task.
    Waiting,
    /// Everything received is dealt with.
    Hungry,
    /// Both sides have said goodbye.
    Parted,
    /// Ours is said, and the other side's would not be understood.
    Broken,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Driver {
    pub(in crate::socket) fn new(connection: Rc<Connection>) -> Self {
        Self { connection, reader: Reader::default(), message: Vec::new(), n_done: 0, work: None, peer: Peer::Talks }
    }

    /// Takes received bytes; only after [`Step::Hungry`], or before the first step.
    pub(in crate::socket) fn receive(&mut self, bytes: Bytes) {
        self.reader.receive(bytes);
    }

    /// Takes what has come from the peer, and gives how much that was; after [`Step::Hungry`].
    pub(in crate::socket) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let hub = Rc::clone(&self.connection.hub);
        let mut arrivals = hub.arrivals.borrow_mut();
        let received = ready!(self.connection.wire().poll_read(cx, &mut arrivals))?;
        let n_received = received.len();
        hub.meters.received(n_received);
        if n_received > 0 {
            self.reader.receive(Bytes::copy_from_slice(received));
        }
        Poll::Ready(Ok(n_received))
    }

    /// After [`Step::Broken`]: drops what still comes. With the connection closed over it, the peer might lose the last frame.
    pub(in crate::socket) fn poll_leftovers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let hub = Rc::clone(&self.connection.hub);
        self.connection.wire().stop_talking();
        let mut arrivals = hub.arrivals.borrow_mut();
        while !ready!(self.connection.wire().poll_read(cx, &mut arrivals))?.is_empty() {}
        Poll::Ready(Ok(()))
    }

    pub(in crate::socket) fn step(&mut self, cx: &mut Context<'_>) -> Step {
        let is_closing = self.connection.phase() == Phase::Closing;
        match self.peer {
            Peer::Talks => {}
            Peer::SaidGoodbye => return Step::Parted,
            Peer::Garbles => return Step::Broken,
        }
        if is_closing {
            self.drop_message();
            self.work = None;
            self.connection.leave_all();
        }
        if let Some(work) = &mut self.work {
            match panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                Ok(Poll::Pending) => return Step::Waiting,
                Ok(Poll::Ready(())) => {}
                Err(_) => {
                    tracing::error!(connection = %self.connection.id, "a command panicked");
                    self.connection.close(close::INTERNAL);
                }
            }
            self.work = None;
            if self.connection.phase() == Phase::Opening {
                // Who was not let in has nothing more to say: the client sent the rest in hope.
                self.drop_message();
            }
            return Step::Progress;
        }
        if self.message.is_empty() { self.read_message() } else { self.carry_out() }
    }

    fn read_message(&mut self) -> Step {
        let hub = Rc::clone(&self.connection.hub);
        let mut message = hub.lend_scratch();
        let read = self.reader.next(hub.rules.message_max_bytes, &mut message);
        let step = match read {
            Ok(None) => Step::Hungry,
            Ok(Some(incoming)) => {
                self.take_message(incoming, &mut message);
                Step::Progress
            }
            Err(violation) => {
                self.peer = Peer::Garbles;
                self.connection.close_with(violation.close_code(), violation.reason());
                Step::Progress
            }
        };
        if self.message.is_empty() {
            hub.return_scratch(message);
        }
        step
    }

    fn take_message(&mut self, incoming: Incoming, message: &mut Vec<u8>) {
        let connection = &self.connection;
        if incoming == Incoming::Close {
            connection.close(close::NORMAL);
            self.peer = Peer::SaidGoodbye;
            return;
        }
        if connection.phase() == Phase::Closing {
            return;
        }
        match incoming {
            Incoming::Text if message.is_empty() => connection.close(close::BAD_REQUEST),
            Incoming::Text => {
                self.message = mem::take(message);
                self.n_done = 0;
                self.carry_out();
            }
            Incoming::Binary => connection.close(close::INAPPROPRIATE_PROTOCOL),
            Incoming::Ping => match connection.spend_allowance() {
                Allowed::Yes => connection.send(frames::pong(message)),
                Allowed::No | Allowed::Flood => connection.close(close::TOO_MANY_REQUESTS),
            },
            Incoming::Pong => {
                if connection.spend_allowance() != Allowed::Yes {
                    connection.close(close::TOO_MANY_REQUESTS);
                }
            }
            Incoming::Close => {}
        }
    }

    /// Carries out the commands of the message up to the first that waits.
    fn carry_out(&mut self) -> Step {
        while self.n_done < self.message.len() && self.connection.phase() != Phase::Closing {
            let rest = &self.message[self.n_done..];
            let line_len = memchr(b'\n', rest).unwrap_or(rest.len());
            let work = self.connection.begin(&rest[..line_len]);
            self.n_done += (line_len + 1).min(rest.len());
            if work.is_some() {
                self.work = work;
                break;
            }
            // The answers to one message may be more than its reader may owe.
            if self.connection.has_much_to_write() {
                break;
            }
        }
        if self.n_done >= self.message.len() {
            self.drop_message();
        }
        Step::Progress
    }

    fn drop_message(&mut self) {
        self.connection.hub.return_scratch(mem::take(&mut self.message));
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Before the connection's end, so that nothing of the command sees it.
        self.work = None;
        self.connection.ended();
    }
}

#[cfg(test)]
mod tests;
