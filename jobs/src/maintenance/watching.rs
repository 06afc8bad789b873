//! The leader's watch over queues that should move and do not.

use super::rounds::Rounds;
use shared::{
    Context, Result,
    jobs::engine::watchdog::{self, Watch},
};
use std::time::Duration;

/// Looks in the time after which a queue counts as stalled.
const LOOKS: u32 = 6;

/// Watches for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let patience = Duration::from_secs(ctx.settings().worker_watchdog_s);
    if patience.is_zero() {
        return std::future::pending().await;
    }
    let (mut watch, mut has_inherited) = (Watch::default(), false);
    let mut rounds = Rounds::every("watching", patience / LOOKS);
    loop {
        rounds.begin().await;
        let result = look(ctx, &mut watch, &mut has_inherited, patience).await;
        if result.is_err() {
            watch.forget();
        }
        rounds.end(result);
    }
}

async fn look(ctx: &Context, watch: &mut Watch, has_inherited: &mut bool, patience: Duration) -> Result<()> {
    if !*has_inherited {
        watchdog::inherit(ctx, watch).await?;
        *has_inherited = true;
    }
    watchdog::look(ctx, watch, patience).await
}
