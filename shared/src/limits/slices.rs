//! The slices a process holds: tokens taken from Redis and not spent yet, and refusals it need not ask about again.

use super::{
    Class, Principal, Verdict,
    bucket::{Bucket, Taken, interval_us},
};
use crate::{Context, Result, config::Rate, telemetry::metrics::RATE_LIMIT_LOCAL};
use quick_cache::sync::Cache;
use redis::Script;
use std::{
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

static BUCKET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("bucket.lua")));

/// How long tokens taken from Redis may be spent.
const SLICE_LASTS: Duration = Duration::from_secs(1);
/// How long Redis is left alone after it failed to answer; counting is local meanwhile.
const REDIS_REST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Slice {
    tokens: u32,
    /// As Redis had it when the slice was taken.
    remaining: u32,
    full_after_us: u64,
    /// Until when tokens may be spent, or a refusal holds.
    until_us: u64,
    refused_until_us: u64,
    /// Counts while Redis is away.
    local: Bucket,
}

#[derive(Debug)]
pub(super) struct Slices {
    callers: Cache<(Class, Principal), Arc<Mutex<Slice>>>,
    started: Instant,
    /// Microseconds since `started` before which Redis is not asked.
    redis_rests_until_us: AtomicU64,
}

impl Slices {
    pub(super) fn new(callers_max: usize) -> Self {
        Self { callers: Cache::new(callers_max), started: Instant::now(), redis_rests_until_us: AtomicU64::new(0) }
    }

    pub(super) async fn take(&self, ctx: &Context, class: Class, principal: Principal, rate: Rate) -> Verdict {
        let slice = self.slice(class, principal);
        if let Some(taken) = locked(&slice, |slice| slice.spend(self.now_us())) {
            return verdict(class, rate, taken);
        }
        if self.now_us() >= self.redis_rests_until_us.load(Ordering::Relaxed) {
            match take_from_redis(ctx, class, principal, rate).await {
                Ok(taken) => {
                    metrics::gauge!(RATE_LIMIT_LOCAL).set(0.0);
                    return verdict(class, rate, locked(&slice, |slice| slice.refill(taken, self.now_us())));
                }
                Err(error) => self.leave_redis_alone(&error),
            }
        }
        verdict(class, rate, locked(&slice, |slice| slice.take_local(rate, self.now_us())))
    }

    /// How long a refusal still holds.
    pub(super) fn refuses(&self, class: Class, principal: Principal) -> Option<Duration> {
        let slice = self.callers.get(&(class, principal))?;
        let until_us = locked(&slice, |slice| slice.refused_until_us);
        until_us.checked_sub(self.now_us()).filter(|left_us| *left_us > 0).map(Duration::from_micros)
    }

    fn slice(&self, class: Class, principal: Principal) -> Arc<Mutex<Slice>> {
        let key = (class, principal);
        self.callers.get(&key).unwrap_or_else(|| {
            let slice = Arc::new(Mutex::new(Slice::default()));
            self.callers.insert(key, Arc::clone(&slice));
            slice
        })
    }

    fn leave_redis_alone(&self, error: &crate::Error) {
        let rest_us = u64::try_from(REDIS_REST.as_micros()).expect("a second fits");
        self.redis_rests_until_us.store(self.now_us() + rest_us, Ordering::Relaxed);
        metrics::gauge!(RATE_LIMIT_LOCAL).set(1.0);
        tracing::warn!(%error, "rate limits are counted in this process alone: Redis does not answer");
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).expect("a process runs less than 500,000 years")
    }
}

/// No code that can panic runs under these locks; a poisoned one is as good as new.
fn locked<T>(slice: &Mutex<Slice>, change: impl FnOnce(&mut Slice) -> T) -> T {
    change(&mut slice.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Slice {
    /// What this slice can answer by itself.
    fn spend(&mut self, now_us: u64) -> Option<Taken> {
        if now_us < self.refused_until_us {
            let retry_after_us = self.refused_until_us - now_us;
            return Some(Taken { granted: 0, remaining: 0, full_after_us: self.full_after_us, retry_after_us });
        }
        if self.tokens == 0 || now_us >= self.until_us {
            return None;
        }
        self.tokens -= 1;
        Some(Taken { granted: 1, remaining: self.remaining + self.tokens, full_after_us: self.full_after_us, retry_after_us: 0 })
    }

    fn take_local(&mut self, rate: Rate, now_us: u64) -> Taken {
        let taken = self.local.take(rate, 1, now_us);
        if taken.granted == 0 { self.remember_refusal(taken, now_us) } else { taken }
    }

    /// So that a flood costs no round trips; at most a second, for quotas can change.
    fn remember_refusal(&mut self, taken: Taken, now_us: u64) -> Taken {
        self.refused_until_us = now_us + taken.retry_after_us.min(1_000_000);
        taken
    }

    /// Keeps what Redis granted, less the token of the request that asked.
    fn refill(&mut self, taken: Taken, now_us: u64) -> Taken {
        self.full_after_us = taken.full_after_us;
        if taken.granted == 0 {
            return self.remember_refusal(taken, now_us);
        }
        self.tokens = if now_us < self.until_us { self.tokens } else { 0 } + taken.granted - 1;
        self.remaining = taken.remaining;
        self.until_us = now_us + u64::try_from(SLICE_LASTS.as_micros()).expect("a second fits");
        Taken { remaining: self.remaining + self.tokens, ..taken }
    }
}

async fn take_from_redis(ctx: &Context, class: Class, principal: Principal, rate: Rate) -> Result<Taken> {
    let key = ctx.keys.rate_limit(class.as_str(), &principal.to_string());
    let wanted = (rate.limit / 128).clamp(1, 1_000);
    let mut connection = ctx.redis.connection();
    let (granted, remaining, full_after_us, retry_after_us) =
        BUCKET.key(key).arg(interval_us(rate)).arg(rate.limit).arg(wanted).invoke_async(&mut connection).await?;
    Ok(Taken { granted, remaining, full_after_us, retry_after_us })
}

fn verdict(class: Class, rate: Rate, taken: Taken) -> Verdict {
    Verdict {
        class,
        rate,
        remaining: taken.remaining,
        reset_after: Duration::from_micros(taken.full_after_us),
        retry_after: taken.retry_after(),
    }
}
