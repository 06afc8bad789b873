//! The leader's look for what uploads, deletions and crashes left of files.

use shared::{Context, files::sweep};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// What is left takes up room and does no other harm. Where files are given up sooner than that, it looks as often.
const EVERY: Duration = Duration::from_mins(1);

/// Sweeps for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut ticks = interval(EVERY.min(Duration::from_secs(ctx.settings().file_unfinished_s)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_swept = true;
    loop {
        ticks.tick().await;
        let result = sweep::keep_house(ctx).await;
        match &result {
            Ok(()) if !was_swept => tracing::info!("the store of files is swept again"),
            Err(error) if was_swept => tracing::warn!(%error, "the store of files is not swept; it is tried again before long"),
            Ok(()) | Err(_) => {}
        }
        was_swept = result.is_ok();
    }
}
