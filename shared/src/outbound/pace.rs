//! How fast an endpoint is delivered to, counted by all processes together.

use crate::{Context, Result};
use redis::Script;
use std::{sync::LazyLock, time::Duration};

/// Longest that one who comes too early is told to wait: by then others may have gone away.
const WAIT_MAX: Duration = Duration::from_mins(1);
/// Least: whoever is put off for less costs more than the wait.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// Deliveries of so many seconds may go at once after a pause; at least one.
const BURST_S: f64 = 0.1;

static PACE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("pace.lua")));

/// Takes the turn of one delivery; or says for how long to wait for one. Those who wait are spread over the turns to come.
pub async fn take(ctx: &Context, name: &str, per_s: f64) -> Result<Option<Duration>> {
    let every_ms = 1_000.0 / per_s;
    let burst = (per_s * BURST_S).floor().max(1.0);
    let mut call = PACE.key(ctx.keys.pace(name));
    call.arg(every_ms).arg(burst).arg(WAIT_MAX.as_millis().to_string());
    let wait_ms: i64 = call.invoke_async(&mut ctx.redis.connection()).await?;
    let wait = u64::try_from(wait_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    Ok(wait.map(|wait| wait.max(WAIT_MIN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestStores;

    #[tokio::test]
    async fn turns_are_given_out_at_the_pace_and_who_waits_is_spread_over_those_to_come() {
        let stores = TestStores::create().await;
        let ctx = stores.context(&[]);
        assert_eq!(take(&ctx, "x", 0.1).await.unwrap(), None);
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(take(&ctx, "x", 0.1).await.unwrap().expect("one in ten seconds has gone").as_millis());
        }
        // 10 s, 20 s … by the clock of Redis, which went on meanwhile; a minute at most.
        for (at, wait) in waits.iter().enumerate() {
            let longest = (10_000 * (at as u128 + 1)).min(60_000);
            assert!((longest.saturating_sub(9_000)..=longest).contains(wait), "{at}: {waits:?}");
        }
        assert_eq!(take(&ctx, "y", 0.1).await.unwrap(), None, "another endpoint");
    }

    #[tokio::test]
    async fn a_tenth_of_a_second_may_go_at_once() {
        let stores = TestStores::create().await;
        let ctx = stores.context(&[]);
        let mut n_gone = 0;
        // A thousand a second is a hundred at once; more only as time passes.
        while take(&ctx, "x", 1_000.0).await.unwrap().is_none() {
            n_gone += 1;
            assert!(n_gone < 100_000, "there is an end");
        }
        assert!(n_gone >= 100, "{n_gone}");
    }
}
