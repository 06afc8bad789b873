//! One clock for the race: Redis'. The scripts judge by it what is due and which lease has expired; a worker whose own clock is
//! off would otherwise write retries that come too late or at once, and expire jobs that have time left.
//!
//! A worker looks at Redis' clock before it leases, and goes on looking; from then on its [`Clock`](crate::clock::Clock) says
//! what Redis says. Other processes keep their own time.

use crate::{Context, Result};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval};

const EVERY: Duration = Duration::from_secs(10);
/// Less than this may be the time that the answer took, and is left as it is.
const TOLERATED_MS: i64 = 250;
/// From here on an operator should look at the machine's clock.
const REMARKABLE_MS: i64 = 2_000;

/// Follows Redis' clock for as long as it is polled.
pub async fn follow(ctx: &Context) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look(ctx).await;
    }
}

/// Looks once; while Redis is away the clock goes on as it did.
pub async fn look(ctx: &Context) {
    match ahead_ms(ctx).await {
        Ok(ahead_ms) if ahead_ms.abs() > TOLERATED_MS => {
            if ahead_ms.abs() > REMARKABLE_MS {
                tracing::warn!(ahead_ms, "this process's clock differs from Redis', and is set by it");
            }
            ctx.clock.correct(-ahead_ms);
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "Redis' clock could not be read"),
    }
}

/// How far our clock is ahead of Redis', taking the answer to have been half of the round trip on its way.
async fn ahead_ms(ctx: &Context) -> Result<i64> {
    let (began, ours) = (Instant::now(), ctx.clock.now());
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut ctx.redis.connection()).await?;
    let theirs = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds) + time::Duration::microseconds(micros);
    let ahead = ours + began.elapsed() / 2 - theirs;
    Ok(i64::try_from(ahead.whole_milliseconds()).unwrap_or(0))
}
