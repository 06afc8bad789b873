//! How many sockets a process takes, and how many new ones per second; and how many commands one socket may send.

use super::hub::Tick;
use shared::{Code, Error, Result, config::Settings, telemetry::metrics::WS_REFUSED};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// The door of one process.
#[derive(Debug)]
pub(super) struct Door {
    n_open: Arc<AtomicUsize>,
    open_max: usize,
    /// `None` when any number may come at once.
    rate: Option<Mutex<Bucket>>,
}

/// A socket's place among those of its process, until dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Door {
    pub(super) fn new(settings: &Settings) -> Self {
        let per_s = settings.ws_connects_per_s;
        Self { n_open: Arc::default(), open_max: settings.ws_max_connections, rate: (per_s > 0).then(|| Mutex::new(Bucket::full(per_s))) }
    }

    pub(super) fn n_open(&self) -> usize {
        self.n_open.load(Ordering::Acquire)
    }

    /// Lets one socket in, or says when to come back.
    pub(super) fn enter(&self) -> Result<Place> {
        let place = Place(Arc::clone(&self.n_open));
        if self.n_open.fetch_add(1, Ordering::AcqRel) >= self.open_max {
            return Err(refused("connections", "This process has as many sockets as it takes."));
        }
        if let Some(rate) = &self.rate
            && !rate.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Err(refused("rate", "More sockets are opened at once than this process takes."));
        }
        Ok(place)
    }
}

pub(super) fn refused(reason: &'static str, detail: &'static str) -> Error {
    metrics::counter!(WS_REFUSED, "reason" => reason).increment(1);
    // Jitter, so that those sent away do not come back as one crowd.
    Error::new(Code::Overloaded, detail).retry_after(Duration::from_secs(rand::random_range(1..=5)))
}

/// Tokens that come back evenly; a second's worth at most.
#[derive(Debug)]
struct Bucket {
    per_s: f64,
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    fn full(per_s: u32) -> Self {
        Self { per_s: f64::from(per_s), tokens: f64::from(per_s), filled_at: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        self.tokens = (self.tokens + self.per_s * (now - self.filled_at).as_secs_f64()).min(self.per_s);
        self.filled_at = now;
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

/// What one socket may still send: refilled once per tick of the wheel, and small, because every socket has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// Below 0: refused since.
    left: i32,
    filled_at: Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    Yes,
    No,
    /// Refusals do not stop it.
    Flood,
}

/// Ticks in a second.
const TICKS_PER_S: i64 = 4;

impl Allowance {
    /// `burst` at once, then `per_s`.
    pub(super) fn new(burst: u32, now: Tick) -> Self {
        Self { left: clamped(burst), filled_at: now }
    }

    pub(super) fn take(&mut self, per_s: u32, burst: u32, now: Tick) -> Allowed {
        let (per_s, burst) = (clamped(per_s), clamped(burst));
        let filled = i64::from(now - self.filled_at) * i64::from(per_s) / TICKS_PER_S;
        if filled > 0 {
            self.left = i32::try_from((i64::from(self.left) + filled).min(i64::from(burst))).unwrap_or(burst);
            self.filled_at = now;
        }
        self.left = self.left.saturating_sub(1);
        match self.left {
            0.. => Allowed::Yes,
            left if left >= -burst => Allowed::No,
            _ => Allowed::Flood,
        }
    }
}

fn clamped(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_refuses_at_first_and_sees_a_flood_in_the_end() {
        let mut allowance = Allowance::new(10, 1);
        let mut take = |now| allowance.take(4, 10, now);
        assert!((0..10).all(|_| take(1) == Allowed::Yes));
        assert!((0..10).all(|_| take(1) == Allowed::No));
        assert_eq!(take(1), Allowed::Flood);
        assert_eq!(take(41), Allowed::Yes);
    }

    #[test]
    fn an_allowance_comes_back_with_time() {
        let mut allowance = Allowance::new(4, 1);
        let mut take = |now| allowance.take(4, 4, now);
        assert!((0..4).all(|_| take(1) == Allowed::Yes));
        assert_eq!(take(1), Allowed::No);
        assert_eq!(take(3), Allowed::Yes);
        assert_eq!(take(3), Allowed::No);
    }
}
