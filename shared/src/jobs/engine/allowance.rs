//! How much a leasing task may hold at once, and how many deliveries its process may finish in its life. Set from outside while
//! it runs: a process takes its slots over one by one from the one it replaces, and leases no more than it may still finish.

use super::held::{Held, Tally};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

#[derive(Debug)]
pub struct Allowance {
    /// Deliveries held at most, those whose outcome is being written not counted.
    prefetch: AtomicUsize,
    /// Deliveries finished at most; `u64::MAX` is without end.
    finished_max: AtomicU64,
    /// Wakes the leasing task.
    pub(super) has_changed: Notify,
}

impl Allowance {
    pub fn new(prefetch: usize) -> Self {
        Self { prefetch: AtomicUsize::new(prefetch), finished_max: AtomicU64::new(u64::MAX), has_changed: Notify::new() }
    }

    pub fn set_prefetch(&self, prefetch: usize) {
        self.prefetch.store(prefetch, Ordering::Relaxed);
        self.has_changed.notify_one();
    }

    /// From now on no more is leased than would make `max` finished deliveries in all.
    pub fn limit_finished(&self, max: u64) {
        self.finished_max.store(max, Ordering::Relaxed);
        self.has_changed.notify_one();
    }

    /// How many deliveries may be leased beyond those that `tally` has counted.
    pub fn left(&self, tally: Tally) -> u64 {
        let max = self.finished_max.load(Ordering::Relaxed);
        max.saturating_sub(tally.n_finished).saturating_sub(tally.n_unfinished())
    }

    pub(super) fn room(&self, held: &Held) -> usize {
        let room = self.prefetch.load(Ordering::Relaxed).saturating_sub(held.n_open());
        if room == 0 || self.finished_max.load(Ordering::Relaxed) == u64::MAX {
            return room;
        }
        room.min(usize::try_from(self.left(held.tally())).unwrap_or(usize::MAX))
    }
}
