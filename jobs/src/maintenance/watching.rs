//! The leader's watch over queues that should move and do not.

use shared::{
    Context,
    jobs::engine::watchdog::{self, Watch},
};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Looks in the time after which a queue counts as stalled.
const LOOKS: u32 = 6;

/// Watches for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let patience = Duration::from_secs(ctx.settings().worker_watchdog_s);
    if patience.is_zero() {
        return std::future::pending().await;
    }
    let mut ticks = interval(patience / LOOKS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut watch, mut has_inherited) = (Watch::default(), false);
    loop {
        ticks.tick().await;
        let result = async {
            if !std::mem::replace(&mut has_inherited, true) {
                watchdog::inherit(ctx, &mut watch).await.inspect_err(|_| has_inherited = false)?;
            }
            watchdog::look(ctx, &mut watch, patience).await
        };
        if let Err(error) = result.await {
            tracing::debug!(%error, "the watchdog sees nothing while a server is away");
            watch.forget();
        }
    }
}
