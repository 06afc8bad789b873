//! How long a client has to send the head of a request, and to take an answer. The HTTP server by itself has a deadline for the first head of a
//! connection, which it answers; for those behind it, and for who reads nothing, it would wait for ever.

use actix_web::rt::time::{Sleep, sleep_until};
use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// Where a connection is with the heads of its requests.
#[derive(Debug, Default)]
pub(super) struct Heads(Cell<State>);

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// The first is the server's.
    #[default]
    First,
    /// A request is being answered: what comes is its body, or for later.
    Answering,
    /// Nothing of the next head has come.
    Idle,
    /// Something came first then.
    Coming(Instant),
}

impl Heads {
    /// A head is there.
    pub(super) fn came(&self) {
        self.0.set(State::Answering);
    }

    /// The answer is told, or the server has all of it to tell: what is read now belongs to the next request.
    pub(super) fn answered(&self) {
        self.0.set(State::Idle);
    }

    /// Whether nothing of the next is there.
    pub(super) fn are_idle(&self) -> bool {
        matches!(self.0.get(), State::Idle)
    }

    /// Something was read.
    pub(super) fn has_read(&self) {
        if self.are_idle() {
            self.0.set(State::Coming(Instant::now()));
        }
    }
}

/// Wakes the reader of a connection whose head takes its time. One alarm serves many heads: setting it for each would cost every request.
#[derive(Debug)]
pub(super) struct Hearing {
    within: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Hearing {
    pub(super) fn new(within: Duration) -> Self {
        Self { within, alarm: None }
    }

    /// Whether the head that is coming has taken too long; else the reader is woken when it will have.
    pub(super) fn is_over(&mut self, heads: &Heads, cx: &mut Context<'_>) -> bool {
        let State::Coming(since) = heads.0.get() else {
            if self.alarm.as_ref().is_some_and(|alarm| alarm.is_elapsed()) {
                self.alarm = None;
            }
            return false;
        };
        let until = since + self.within;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until.into())));
        // One that was set for an earlier head goes off early, and is set anew.
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return true;
            }
            alarm.as_mut().reset(until.into());
        }
        false
    }
}

/// Ends a connection whose client takes nothing of what it is sent.
#[derive(Debug)]
pub(super) struct Telling {
    within: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Telling {
    pub(super) fn new(within: Duration) -> Self {
        Self { within, alarm: None }
    }

    /// What became of a write: the kernel's buffers took something, or have been full for too long.
    pub(super) fn wrote(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.alarm = None;
            return written;
        }
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until((Instant::now() + self.within).into())));
        alarm.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}
