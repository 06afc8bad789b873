//! The arithmetic of a token bucket as one time: when the bucket will be full again ("theoretical arrival time").
//! `bucket.lua` does the same on the clock of Redis.

use crate::config::Rate;
use std::time::Duration;

/// A bucket of `rate.limit` tokens that refills evenly over `rate.per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// Microseconds at which the bucket is full; in the past: it is.
    full_at_us: u64,
}

/// What was taken, and how the bucket stands after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub granted: u32,
    pub remaining: u32,
    pub full_after_us: u64,
    /// Until one token is there; 0 while there is one.
    pub retry_after_us: u64,
}

/// Microseconds one token takes to refill.
pub(super) fn interval_us(rate: Rate) -> u64 {
    (u64::try_from(rate.per.as_micros()).expect("rates are per hour at most") / u64::from(rate.limit)).max(1)
}

impl Bucket {
    /// Takes up to `wanted` tokens at `now_us`.
    pub fn take(&mut self, rate: Rate, wanted: u32, now_us: u64) -> Taken {
        let interval_us = interval_us(rate);
        let capacity_us = interval_us * u64::from(rate.limit);
        let full_at_us = self.full_at_us.max(now_us);
        let free_us = (now_us + capacity_us).saturating_sub(full_at_us);
        let available = u32::try_from(free_us / interval_us).unwrap_or(rate.limit);
        let granted = available.min(wanted);
        self.full_at_us = full_at_us + u64::from(granted) * interval_us;
        let retry_after_us = if granted == 0 { interval_us - free_us % interval_us } else { 0 };
        Taken { granted, remaining: available - granted, full_after_us: self.full_at_us - now_us, retry_after_us }
    }
}

impl Taken {
    pub(super) fn retry_after(&self) -> Option<Duration> {
        (self.granted == 0).then(|| Duration::from_micros(self.retry_after_us))
    }
}
