//! The leader's slowest loop: partitions ahead of time, and what is past its retention.

use shared::{Context, Result, jobs::engine::upkeep};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const EVERY: Duration = Duration::from_mins(10);

/// Keeps house for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = keep(ctx).await {
            tracing::warn!(%error, "upkeep failed; it is tried again in ten minutes");
        }
    }
}

async fn keep(ctx: &Context) -> Result<()> {
    upkeep::add_days(ctx).await?;
    let n_pruned = upkeep::prune(ctx).await?;
    if n_pruned > 0 {
        tracing::info!(n_jobs = n_pruned, "ended jobs past their retention were removed");
    }
    Ok(())
}
