//! How long a client has to send the head of a request. The HTTP server by itself has a deadline for the first head of a connection, which it
//! answers; for those behind it, it would wait for ever.

use actix_web::rt::time::{Sleep, sleep_until};
use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::Context,
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

    /// Whether a request is being answered.
    pub(super) fn are_answering(&self) -> bool {
        matches!(self.0.get(), State::Answering)
    }

    /// Whether nothing of the next is there.
    pub(super) fn are_idle(&self) -> bool {
        matches!(self.0.get(), State::Idle)
    }

    /// The server does not read on for now, whatever there is.
    pub(super) fn put_off(&self) {
        if let State::Coming(_) = self.0.get() {
            self.0.set(State::Coming(Instant::now()));
        }
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
