//! Circuit breakers that all processes share: what does not answer is left alone for a while, and then tried by one request before
//! the others follow.
//!
//! Closed → open after [`STREAK_MAX`] failures in a row, or when half of the last [`WINDOW`] failed → half open, for one probe → closed,
//! or open for twice as long. Refusals (4xx) are no failures: who refuses is there.

use crate::{Context, Result};
use redis::Script;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::LazyLock, time::Duration};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// Failures in a row that open it.
const STREAK_MAX: u32 = 5;
/// Outcomes that are remembered; half of them failures opens it.
const WINDOW: usize = 20;
/// Longest that it stays open at a time.
const OPEN_MAX: Duration = Duration::from_mins(10);
/// What was not used for so long is forgotten, and so is closed.
const FORGET_AFTER: Duration = Duration::from_hours(24);

static ASK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("breaker_ask.lua")));
static TELL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("breaker_tell.lua")));

/// Whether a request may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    Yes,
    /// It is the one that finds out whether it is well again.
    Probe,
    /// Not for so long.
    Wait(Duration),
}

/// A breaker as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Breaker {
    pub state: BreakerState,
    /// When an open one is tried again.
    #[schema(required)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
    /// In a row.
    pub failures: u32,
}

impl Breaker {
    pub const CLOSED: Self = Self { state: BreakerState::Closed, until: None, failures: 0 };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

/// Asks before a request that takes `probe_for` at most.
pub async fn ask(ctx: &Context, name: &str, probe_for: Duration) -> Result<Permit> {
    let (answer, wait_ms): (String, u64) =
        ASK.key(ctx.keys.breaker(name)).arg(whole_ms(probe_for)).invoke_async(&mut ctx.redis.connection()).await?;
    Ok(match answer.as_str() {
        "yes" => Permit::Yes,
        "probe" => Permit::Probe,
        _ => Permit::Wait(Duration::from_millis(wait_ms)),
    })
}

/// Tells what a request came to.
pub async fn tell(ctx: &Context, name: &str, is_well: bool) -> Result<()> {
    let open_for = Duration::from_millis(ctx.settings().outbound_breaker_ms);
    let mut call = TELL.key(ctx.keys.breaker(name));
    call.arg(u8::from(is_well)).arg(whole_ms(open_for)).arg(whole_ms(OPEN_MAX.max(open_for)));
    call.arg(STREAK_MAX).arg(WINDOW).arg(whole_ms(FORGET_AFTER));
    let _: i64 = call.invoke_async(&mut ctx.redis.connection()).await?;
    Ok(())
}

/// Closes it, whatever was before.
pub async fn reset(ctx: &Context, name: &str) -> Result<()> {
    let mut cmd = redis::cmd("DEL");
    Ok(cmd.arg(ctx.keys.breaker(name)).exec_async(&mut ctx.redis.connection()).await?)
}

/// How breakers stand, in the order of `names`.
pub async fn look(ctx: &Context, names: &[String]) -> Result<Vec<Breaker>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipe = redis::pipe();
    for name in names {
        pipe.hgetall(ctx.keys.breaker(name));
    }
    let hashes: Vec<HashMap<String, String>> = pipe.query_async(&mut ctx.redis.connection()).await?;
    let now = ctx.clock.now();
    Ok(hashes.iter().map(|hash| breaker(hash, now)).collect())
}

fn breaker(hash: &HashMap<String, String>, now: OffsetDateTime) -> Breaker {
    let until = hash.get("until").and_then(|ms| crate::clock::from_unix_ms(ms.parse().ok()?));
    let state = match until {
        None => BreakerState::Closed,
        Some(until) if until > now => BreakerState::Open,
        Some(_) => BreakerState::HalfOpen,
    };
    Breaker { state, until, failures: hash.get("streak").and_then(|n| n.parse().ok()).unwrap_or(0) }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestStores;

    async fn tell_all(ctx: &Context, outcomes: &[bool]) {
        for is_well in outcomes {
            tell(ctx, "x", *is_well).await.unwrap();
        }
    }

    async fn state(ctx: &Context) -> BreakerState {
        look(ctx, &["x".to_owned()]).await.unwrap()[0].state
    }

    #[tokio::test]
    async fn it_opens_is_probed_by_one_and_closes() {
        let stores = TestStores::create().await;
        let ctx = stores.context(&[("OUTBOUND_BREAKER_MS", "50")]);
        let probe = Duration::from_secs(60);
        tell_all(&ctx, &[false, false, false, false]).await;
        assert_eq!(ask(&ctx, "x", probe).await.unwrap(), Permit::Yes);
        tell_all(&ctx, &[false]).await;
        assert_eq!(state(&ctx).await, BreakerState::Open);
        // Whatever began before it opened changes nothing now.
        tell_all(&ctx, &[true, false]).await;
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while ask(&ctx, "x", probe).await.unwrap() != Permit::Probe {
            assert!(std::time::Instant::now() < deadline, "it is probed some time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(matches!(ask(&ctx, "x", probe).await.unwrap(), Permit::Wait(_)), "one probe is enough");
        tell_all(&ctx, &[false]).await;
        assert_eq!(state(&ctx).await, BreakerState::Open, "it is not well yet");
        while ask(&ctx, "x", probe).await.unwrap() != Permit::Probe {
            assert!(std::time::Instant::now() < deadline, "it is probed again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tell_all(&ctx, &[true]).await;
        assert_eq!((state(&ctx).await, ask(&ctx, "x", probe).await.unwrap()), (BreakerState::Closed, Permit::Yes));
    }

    #[tokio::test]
    async fn half_of_the_last_twenty_open_it_too_and_successes_between_do_not_hide_them() {
        let stores = TestStores::create().await;
        let ctx = stores.context(&[]);
        tell_all(&ctx, &[true, false].repeat(9)).await;
        assert_eq!(state(&ctx).await, BreakerState::Closed);
        tell_all(&ctx, &[true, false]).await;
        assert_eq!(state(&ctx).await, BreakerState::Open);
        reset(&ctx, "x").await.unwrap();
        assert_eq!(state(&ctx).await, BreakerState::Closed);
    }
}
