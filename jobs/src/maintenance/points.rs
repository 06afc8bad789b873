//! The leader's look for users who have too many dead letters of points.

use shared::{Context, points::trim};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Who has too many gets more of them for no longer than this.
const EVERY: Duration = Duration::from_mins(1);

/// Trims for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = trim::trim_dead(ctx).await {
            tracing::warn!(%error, "dead letters of points are not trimmed; it is tried again in a minute");
        }
    }
}
