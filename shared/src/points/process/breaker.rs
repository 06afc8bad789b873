//! Waiting for PostgreSQL: after a few quick retries the batches of all shards of the process wait together, one of them trying now and then,
//! while the streams buffer.

use crate::telemetry::metrics::INGEST_BREAKER_OPEN;
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures in a row that are retried at once, nearly.
const QUICK_MAX: u32 = 3;
const QUICK_PAUSE: Duration = Duration::from_millis(50);
const OPEN_FIRST: Duration = Duration::from_millis(500);
const OPEN_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    n_failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// How long to wait before trying; one caller of those who wait is let through when it is time, and the others go on waiting.
    pub(super) fn wait(&self) -> Option<Duration> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = state.open_until?;
        let now = Instant::now();
        if until > now {
            return Some(until - now);
        }
        state.open_until = Some(now + open_for(state.n_failures));
        None
    }

    pub(super) fn succeeded(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.open_until.is_some() {
            metrics::gauge!(INGEST_BREAKER_OPEN).set(0.0);
            tracing::info!("points are stored again");
        }
        *state = State::default();
    }

    /// The pause before the next try.
    pub(super) fn failed(&self, error: &crate::Error) -> Duration {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.n_failures += 1;
        if state.n_failures <= QUICK_MAX {
            return QUICK_PAUSE * 2_u32.pow(state.n_failures - 1);
        }
        if state.open_until.is_none() {
            metrics::gauge!(INGEST_BREAKER_OPEN).set(1.0);
            tracing::warn!(%error, "points wait in Redis, since PostgreSQL does not take them; it is tried until it does");
        }
        let pause = open_for(state.n_failures);
        state.open_until = Some(Instant::now() + pause);
        pause
    }
}

fn open_for(n_failures: u32) -> Duration {
    (OPEN_FIRST * 2_u32.pow(n_failures.saturating_sub(QUICK_MAX + 1).min(8))).min(OPEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, Error};

    #[test]
    fn after_quick_retries_all_wait_together_until_one_succeeds() {
        let breaker = Breaker::default();
        let error = Error::new(Code::DatabaseUnavailable, "away");
        for _ in 0..QUICK_MAX {
            assert!(breaker.failed(&error) < OPEN_FIRST);
            assert_eq!(breaker.wait(), None);
        }
        assert_eq!(breaker.failed(&error), OPEN_FIRST);
        assert!(breaker.wait().is_some_and(|wait| wait <= OPEN_FIRST));
        for _ in 0..20 {
            assert!(breaker.failed(&error) <= OPEN_MAX);
        }
        breaker.succeeded();
        assert_eq!(breaker.wait(), None);
    }
}
