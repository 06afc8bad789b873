//! Whose turn it is: channels that something is done for again and again, each at its own time.

use super::{Tick, channel::HubChannel, ticks};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    time::Duration,
};

/// Channels in one go of a thread; the rest waits for the next.
const CHANNELS_AT_ONCE: usize = 1_000;
/// After a go that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Rounds {
    every: Tick,
    due: RefCell<VecDeque<(Tick, Weak<HubChannel>)>>,
    /// One go at a time: what it asks may be slow to answer.
    is_under_way: Cell<bool>,
}

impl Rounds {
    pub(super) fn new(every: Tick) -> Self {
        Self { every, due: RefCell::default(), is_under_way: Cell::new(false) }
    }

    /// The channel's turn comes in one period.
    pub(super) fn enter(&self, now: Tick, channel: &Rc<HubChannel>) {
        self.due.borrow_mut().push_back((now + self.every, Rc::downgrade(channel)));
    }

    /// The channel's turn comes again soon.
    pub(super) fn retry(&self, now: Tick, channel: &Rc<HubChannel>) {
        self.due.borrow_mut().push_front((now + ticks(RETRY_AFTER), Rc::downgrade(channel)));
    }

    /// It is everybody's turn.
    pub(super) fn hurry(&self) {
        for (due, _) in self.due.borrow_mut().iter_mut() {
            *due = 0;
        }
    }

    /// Begins a go with those whose turn it is; `None` when there are none, or the last go is not over.
    pub(super) fn begin(&self, now: Tick) -> Option<Vec<Rc<HubChannel>>> {
        if self.is_under_way.get() {
            return None;
        }
        let (mut due, mut taken) = (self.due.borrow_mut(), Vec::new());
        while taken.len() < CHANNELS_AT_ONCE
            && let Some((_, channel)) = due.pop_front_if(|(due, _)| *due <= now)
        {
            // Channels that are gone drop out here.
            taken.extend(channel.upgrade());
        }
        self.is_under_way.set(!taken.is_empty());
        (!taken.is_empty()).then_some(taken)
    }

    pub(super) fn end(&self) {
        self.is_under_way.set(false);
    }
}
