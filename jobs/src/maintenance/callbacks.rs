//! The leader's look for receivers that said they would call back, and did not in time.

use shared::{Context, endpoints::callbacks};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How late a wait may end.
const EVERY: Duration = Duration::from_secs(1);

/// Ends waits for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        loop {
            match callbacks::expire(ctx).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!(%error, "jobs that wait for callbacks wait on while PostgreSQL is away");
                    break;
                }
            }
        }
    }
}
