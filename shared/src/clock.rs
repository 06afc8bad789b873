//! Where time comes from, so that a test can set it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use time::{Duration, OffsetDateTime};

/// The wall clock, plus an offset that only tests move, plus what a worker corrects it by. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_ms: Arc<AtomicI64>,
    correction_ms: Arc<AtomicI64>,
}

impl Clock {
    /// Now, cut to microseconds: what PostgreSQL stores, so that a value survives the round trip.
    pub fn now(&self) -> OffsetDateTime {
        let offset_ms = self.offset_ms.load(Ordering::Relaxed) + self.correction_ms.load(Ordering::Relaxed);
        let now = OffsetDateTime::now_utc() + Duration::milliseconds(offset_ms);
        now.replace_nanosecond(now.microsecond() * 1_000).expect("microseconds are below one second")
    }

    /// What it is corrected by, for a process that is to begin with the same.
    pub fn correction_ms(&self) -> i64 {
        self.correction_ms.load(Ordering::Relaxed)
    }

    /// Moves the clock, of a process that goes by another's.
    pub fn correct(&self, by_ms: i64) {
        self.correction_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    pub fn advance(&self, by: Duration) {
        let by_ms = i64::try_from(by.whole_milliseconds()).expect("a test moves time by less than 292 million years");
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

/// Milliseconds since 1970, the unit of every time kept in Redis.
pub fn unix_ms(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).expect("years up to 9999 fit")
}

/// The inverse of [`unix_ms`]; times outside years −9999..=9999 give `None`.
pub fn from_unix_ms(at_ms: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).ok()
}
