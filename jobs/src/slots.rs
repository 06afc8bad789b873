//! How many jobs a child may run at once. The supervisor gives it slots, and a child that goes gives them back one by one: so a
//! worker never runs more than `WORKER_CONCURRENCY`, however many of its children take turns.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub struct Slots {
    free: Semaphore,
    n_owned: AtomicUsize,
    is_closed: CancellationToken,
}

impl Slots {
    pub fn new(n_slots: usize) -> Self {
        Self { free: Semaphore::new(n_slots), n_owned: AtomicUsize::new(n_slots), is_closed: CancellationToken::new() }
    }

    pub fn n_owned(&self) -> usize {
        self.n_owned.load(Ordering::Relaxed)
    }

    /// A slot for one attempt; `None` once the child hands back what has not started.
    pub(crate) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.free.try_acquire() {
            return Some(permit);
        }
        tokio::select! {
            biased;
            () = self.is_closed.cancelled() => None,
            permit = self.free.acquire() => permit.ok(),
        }
    }

    /// Raises their number; one that is lower is an old wish.
    pub(crate) fn grow_to(&self, n_slots: usize) {
        let n_more = n_slots.saturating_sub(self.n_owned());
        self.n_owned.fetch_add(n_more, Ordering::Relaxed);
        self.free.add_permits(n_more);
    }

    /// Gives back those that are not `needed`; returns whether there were such. Only slots that nobody is about to take may be
    /// called not needed.
    pub(crate) fn shrink_to(&self, n_needed: usize) -> bool {
        let n_fewer = self.n_owned().saturating_sub(n_needed);
        let n_gone = self.free.forget_permits(n_fewer);
        self.n_owned.fetch_sub(n_gone, Ordering::Relaxed);
        n_gone > 0
    }

    /// Nobody waits for a slot any more.
    pub(crate) fn close(&self) {
        self.is_closed.cancel();
    }
}
