//! The leader's look after what ended jobs leave to be done for others: jobs that wait for them, and batches.
//!
//! Whoever ends a job does that at once. Here comes what a killed process left, what was to be done while a server was away, and what
//! nobody could tell.

use shared::{
    Context,
    jobs::aftermath::{self, Cursor},
};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Between looks for what is noted, which cost a statement each where nothing is.
const EVERY: Duration = Duration::from_secs(1);

/// Follows up for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    tokio::join!(see_to_all(ctx), look_on(ctx));
}

async fn see_to_all(ctx: &Context) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = aftermath::see_to_all(ctx).await {
            tracing::warn!(%error, "jobs that wait, or batches, are not dealt with; it is tried again in a second");
        }
    }
}

async fn look_on(ctx: &Context) {
    let mut ticks = interval(Duration::from_millis(ctx.settings().worker_reconcile_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cursor = Cursor::default();
    loop {
        ticks.tick().await;
        if let Err(error) = aftermath::look_on(ctx, &mut cursor).await {
            tracing::warn!(%error, "the jobs that others wait for were not all looked at; the next pass goes on there");
        }
    }
}
