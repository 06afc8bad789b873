//! From the outbox to the socket. A write costs more than all else that a frame costs, so frames are collected first: by the
//! task that serves the connection, over a turn of it, and by the hub, over what it hears at once.

use super::{
    Connection, Phase,
    commands::{Failure, Outcome},
};
use crate::socket::{
    outbox::{Frame, Full},
    protocol::{
        close::{self, CloseReason},
        error::Refusal,
    },
};
use bytes::Bytes;
use shared::{Code, Error, telemetry::metrics::WS_ANSWERS_REFUSED};
use std::{
    io::{self, IoSlice},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

/// Frames in one write.
const FRAMES_AT_ONCE: usize = 64;
/// Answers that are put together before they are written, while there are commands to carry out.
const WRITE_AT_BYTES: usize = 32 << 10;
/// An answer up to this is sent whatever waits for others: to refuse it would take hardly less.
const SMALL_ANSWER_BYTES: usize = 1 << 10;

/// Who will write what is put into the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The task that serves the connection has to be woken.
    Nobody,
    /// That task, before it ends its turn.
    Turn,
    /// The hub, when it has heard everything that came together.
    Hub,
}

impl Connection {
    /// The task begins to move the connection on; whoever has something for it wakes `waker`.
    pub(in crate::socket) fn begin_turn(&self, waker: &Waker) {
        let mut task = self.task.borrow_mut();
        if task.as_ref().is_none_or(|task| !task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
        drop(task);
        self.writer.set(Writer::Turn);
    }

    pub(in crate::socket) fn end_turn(&self) {
        self.writer.set(Writer::Nobody);
    }

    /// A frame for this connection alone.
    pub(in crate::socket) fn framed(&self, bytes: Bytes) -> Frame {
        let n_bytes = bytes.len();
        let claim = match &*self.holder.borrow() {
            Some(holder) => holder.holding.claim(n_bytes),
            None => self.hub.memory.holding(&Arc::default()).claim(n_bytes),
        };
        Frame::new(bytes, claim)
    }

    /// Puts a frame into the outbox. Who is too far behind is closed; who is closing gets nothing more.
    pub(in crate::socket) fn send(&self, frame: Bytes) {
        if self.put(self.framed(frame)) {
            self.hurry_to_write();
        }
    }

    /// The same for what was asked for. Where too much waits already, it fails for who has read everything before, and may ask again later;
    /// who has not is closed.
    pub(super) fn send_answer(&self, answer: Bytes) -> Outcome {
        let frame = self.framed(answer);
        if frame.len() > SMALL_ANSWER_BYTES && !frame.fits() && self.phase.get() != Phase::Closing {
            if !self.wire.is_blocked() {
                self.write_or_wake();
            }
            if self.outbox.borrow().is_empty() {
                return Err(no_room());
            }
            self.close_at_once(close::SLOW);
        } else if self.put(frame) {
            self.hurry_to_write();
        }
        Ok(())
    }

    /// Fails where an answer of `n_bytes` would: for what cannot be asked for again once it is done.
    pub(super) fn require_room(&self, n_bytes: usize) -> Outcome {
        if self.holder().holding.has_room(n_bytes) { Ok(()) } else { Err(no_room()) }
    }

    /// The same for a frame that goes to many: the hub writes when it has told all of them, and gets those to write to.
    pub(in crate::socket) fn send_with_others(self: &Rc<Self>, frame: Frame, unwritten: &mut Vec<Rc<Self>>) {
        if self.put(frame) && self.writer.get() == Writer::Nobody {
            self.writer.set(Writer::Hub);
            unwritten.push(Rc::clone(self));
        }
    }

    /// Whether the frame was taken.
    fn put(&self, frame: Frame) -> bool {
        if self.phase.get() == Phase::Closing {
            return false;
        }
        let (bytes, limits) = (frame.len(), self.hub.rules.outbox);
        let mut outcome = self.outbox.borrow_mut().push(frame, limits);
        if !self.wire.is_blocked()
            && let Err(Full(frame)) = outcome
        {
            // Much came at once: the peer may be as fast as any.
            self.write_or_wake();
            outcome = self.outbox.borrow_mut().push(frame, limits);
        }
        if outcome.is_err() {
            self.close_at_once(close::SLOW);
            return false;
        }
        self.hub.meters.frame_queued(bytes);
        true
    }

    /// Closes with what waits thrown away: for those who do not read.
    fn close_at_once(&self, reason: CloseReason) {
        self.hub.meters.frames_dropped(self.outbox.borrow_mut().clear());
        self.close(reason);
    }

    pub(super) fn hurry_to_write(&self) {
        if self.writer.get() == Writer::Nobody {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// The hub's turn to write, which it was given by [`send_with_others`](Self::send_with_others).
    pub(in crate::socket) fn write_for_hub(&self) {
        if self.writer.get() == Writer::Hub {
            self.writer.set(Writer::Nobody);
        }
        if !self.wire.is_blocked() {
            self.write_or_wake();
            if self.wire.is_blocked() && self.phase.get() != Phase::Closing && !self.outbox.borrow().last_fits() {
                self.close_at_once(close::SLOW);
            }
        }
    }

    /// Writes what the socket takes now. Whoever finds that it takes no more wakes the task, which alone waits for it.
    fn write_or_wake(&self) {
        if self.write().is_err() {
            self.wake();
        }
    }

    /// Whether answers are to be written before further commands are carried out: whoever sends many is held up by TCP, and not
    /// taken for a slow reader of its own answers.
    pub(in crate::socket) fn has_much_to_write(&self) -> bool {
        let (outbox, limits) = (self.outbox.borrow(), self.hub.rules.outbox);
        outbox.bytes() >= WRITE_AT_BYTES.min(limits.bytes / 2) || outbox.len() >= limits.messages.div_ceil(2)
    }

    /// Writes until nothing waits.
    pub(in crate::socket) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.wire.poll_writable(cx))?;
            match self.write() {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes all that waits, or as much as the socket takes: then the error is `WouldBlock`.
    fn write(&self) -> io::Result<()> {
        let mut outbox = self.outbox.borrow_mut();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); FRAMES_AT_ONCE];
            let n_slices = outbox.fill(&mut slices);
            let n_written = self.wire.write(&slices[..n_slices])?;
            let n_frames = outbox.advance(n_written);
            self.hub.meters.frames_sent(n_frames, n_written);
        }
        Ok(())
    }
}

fn no_room() -> Failure {
    metrics::counter!(WS_ANSWERS_REFUSED).increment(1);
    Refusal::from(Error::new(Code::Overloaded, "Too many answers wait for those who asked for them.")).into()
}
