//! Decides when a connection sends its next request. In the open loop the connections of a thread
//! share one schedule: request `n` is due at a fixed time, and the first free connection takes it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::plan::{Pace, Window};
use super::recorder::Departure;
use super::timer::ExactTimer;

/// How long after the end a request that was due before it may still be sent: without it, the
/// last request of a healthy run would count as unsent by a hair.
const SEND_GRACE: Duration = Duration::from_millis(50);

/// The pace of one thread's connections.
#[derive(Debug)]
pub(super) enum Pacer {
    Closed { window: Window },
    Open(Schedule),
}

/// One thread's share of the whole rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) thread_idx: u32,
    pub(super) threads: u32,
    pub(super) connections: usize,
}

impl Pacer {
    pub(super) fn new(pace: Pace, window: Window, share: Share) -> Self {
        match pace {
            Pace::Closed => Pacer::Closed { window },
            Pace::Open { rate_per_s, max_waiting } => Pacer::Open(Schedule::new(rate_per_s, max_waiting, window, share)),
        }
    }

    /// Waits for the next request that this connection is to send; None when the run is over.
    /// `free_since` is when the last one was answered.
    pub(super) async fn next(&self, slot: usize, free_since: Instant) -> Option<Departure> {
        match self {
            Pacer::Closed { window } => (free_since < window.end).then_some(Departure { intended: free_since, sent: free_since }),
            Pacer::Open(schedule) => schedule.next(slot).await,
        }
    }

    /// Requests that the schedule has for the measured time; None in the closed loop.
    pub(super) fn offered(&self) -> Option<u64> {
        match self {
            Pacer::Closed { .. } => None,
            Pacer::Open(schedule) => Some(schedule.n_total - schedule.n_warmup),
        }
    }
}

/// Requests at even distances, and the connections that wait for one.
#[derive(Debug)]
pub(super) struct Schedule {
    first_due: Instant,
    interval_ns: f64,
    /// Requests due before the measured time.
    n_warmup: u64,
    n_total: u64,
    max_waiting: u64,
    closes: Instant,
    /// The next request to send.
    next: Cell<u64>,
    idle: RefCell<IdleSlots>,
}

impl Schedule {
    fn new(rate_per_s: f64, max_waiting: u64, window: Window, share: Share) -> Self {
        let interval_ns = 1e9 * f64::from(share.threads) / rate_per_s;
        // Threads take turns, so that together they send evenly.
        let offset_ns = interval_ns * f64::from(share.thread_idx) / f64::from(share.threads);
        let first_due = window.launch + Duration::from_nanos(offset_ns as u64);
        let mut schedule = Self {
            first_due,
            interval_ns,
            n_warmup: 0,
            n_total: 0,
            max_waiting: max_waiting.div_ceil(u64::from(share.threads)),
            closes: window.end + SEND_GRACE,
            next: Cell::new(0),
            idle: RefCell::new(IdleSlots::new(share.connections)),
        };
        schedule.n_warmup = schedule.n_due_before(window.start);
        schedule.n_total = schedule.n_due_before(window.end);
        schedule
    }

    fn due_at(&self, request_idx: u64) -> Instant {
        self.first_due + Duration::from_nanos((request_idx as f64 * self.interval_ns) as u64)
    }

    fn n_due_before(&self, at: Instant) -> u64 {
        let Some(elapsed) = at.checked_duration_since(self.first_due) else {
            return 0;
        };
        let estimate = (elapsed.as_nanos() as f64 / self.interval_ns) as u64;
        // Rounding may put the estimate one off on either side.
        (estimate.saturating_sub(1)..=estimate + 1).find(|request_idx| self.due_at(*request_idx) >= at).unwrap_or(estimate + 2)
    }

    fn n_due(&self, now: Instant) -> u64 {
        self.n_due_before(now).min(self.n_total)
    }

    async fn next(&self, slot: usize) -> Option<Departure> {
        std::future::poll_fn(|cx| {
            let now = Instant::now();
            if self.next.get() == self.n_total || now >= self.closes {
                return Poll::Ready(None);
            }
            match self.take(now) {
                Some(departure) => Poll::Ready(Some(departure)),
                None => {
                    self.idle.borrow_mut().enter(slot, cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Takes the oldest request that is due, giving up those beyond the bound on waiting ones.
    fn take(&self, now: Instant) -> Option<Departure> {
        let n_due = self.n_due(now);
        let oldest_kept = n_due.saturating_sub(self.max_waiting);
        let request_idx = self.next.get().max(oldest_kept);
        if request_idx >= n_due {
            return None;
        }
        self.next.set(request_idx + 1);
        Some(Departure { intended: self.due_at(request_idx), sent: now })
    }

    /// Wakes idle connections as requests fall due, until the schedule closes.
    pub(super) async fn dispatch(&self) -> io::Result<()> {
        let mut timer = ExactTimer::new()?;
        loop {
            let n_due = self.n_due(Instant::now());
            self.idle.borrow_mut().wake(n_due - self.next.get().min(n_due));
            if n_due == self.n_total {
                break;
            }
            timer.wait_until(self.due_at(n_due)).await?;
        }
        timer.wait_until(self.closes).await?;
        self.idle.borrow_mut().wake(u64::MAX);
        Ok(())
    }
}

/// Connections waiting for a request, longest idle first, so that all take part.
#[derive(Debug)]
struct IdleSlots {
    queue: VecDeque<usize>,
    wakers: Vec<Option<Waker>>,
}

impl IdleSlots {
    fn new(n_slots: usize) -> Self {
        Self { queue: VecDeque::with_capacity(n_slots), wakers: vec![None; n_slots] }
    }

    /// A connection may be polled for another reason while it waits: it queues once.
    fn enter(&mut self, slot: usize, waker: &Waker) {
        let before = self.wakers[slot].replace(waker.clone());
        if before.is_none() {
            self.queue.push_back(slot);
        }
    }

    fn wake(&mut self, n_requests: u64) {
        for _ in 0..n_requests {
            let Some(slot) = self.queue.pop_front() else {
                return;
            };
            if let Some(waker) = self.wakers[slot].take() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests;
