//! The leader's removing of what deleted accounts had.

use shared::{Context, accounts::removal};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Costs a statement where nothing is left. Nobody sees what is left, and it takes up room.
const EVERY: Duration = Duration::from_secs(5);

/// Removes for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = removal::remove_deleted(ctx).await {
            tracing::debug!(%error, "what deleted accounts had stays while PostgreSQL is away");
        }
    }
}
