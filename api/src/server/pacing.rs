//! When a connection is read again. Who was shed and asks again at once is read when its turn comes: as many are shed as that costs
//! next to nothing, and the rest waits where it costs nothing, in the buffers of the kernel.

use actix_web::rt::time::{Sleep, sleep_until};
use std::{
    cell::Cell,
    future::Future,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

/// When the next request of a connection may be read; whoever serves one of its requests can put it off.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turn(Rc<TurnState>);

#[derive(Debug, Default)]
struct TurnState {
    at: Cell<Option<Instant>>,
    kept_waiting: Cell<bool>,
}

impl Turn {
    /// Nothing is read before `at`.
    pub(crate) fn put_off(&self, at: Instant) {
        self.0.at.set(Some(at));
    }

    /// Whether the request that is read now was there before its turn came, which is told once: how long it has waited nobody knows.
    pub(crate) fn has_kept_waiting(&self) -> bool {
        self.0.kept_waiting.take()
    }
}

/// The connection's side of it.
#[derive(Debug, Default)]
pub(super) struct Pace {
    turn: Turn,
    sleep: Option<Pin<Box<Sleep>>>,
    /// It has waited for its turn, and nothing has been read since.
    is_waiting: bool,
}

impl Pace {
    pub(super) fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// Whether it is its turn; the reader is woken when it is.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.turn.0.at.get() else { return Poll::Ready(()) };
        if Instant::now() < at {
            self.is_waiting = true;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at.into())));
            if sleep.deadline() != at.into() {
                sleep.as_mut().reset(at.into());
            }
            ready!(sleep.as_mut().poll(cx));
        }
        self.turn.0.at.set(None);
        self.sleep = None;
        Poll::Ready(())
    }

    /// Something was to be read, or nothing yet.
    pub(super) fn looked(&mut self, is_there: bool) {
        if mem::take(&mut self.is_waiting) {
            self.turn.0.kept_waiting.set(is_there);
        }
    }
}
