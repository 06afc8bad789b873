//! The leader's saving of publications: what was published on persisted channels moves from Redis to PostgreSQL.

use shared::{
    Context,
    channels::persist::{self, Cursor},
};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Between passes when nothing is left behind: readers find what is not saved yet in Redis, so that this need not be fast.
const EVERY: Duration = Duration::from_secs(1);

/// Saves for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cursor = Cursor::default();
    let mut was_saved = true;
    loop {
        ticks.tick().await;
        let result = save_all(ctx, &mut cursor).await;
        match &result {
            Ok(()) if !was_saved => tracing::info!("publications are saved again"),
            Err(error) if was_saved => tracing::warn!(%error, "publications wait in Redis to be saved; it is tried until it succeeds"),
            Ok(()) | Err(_) => {}
        }
        was_saved = result.is_ok();
    }
}

/// Goes on until a round over all channels finds nothing more.
async fn save_all(ctx: &Context, cursor: &mut Cursor) -> shared::Result<()> {
    loop {
        let mut n_saved = persist::save(ctx, cursor).await?;
        while !cursor.is_at_start() {
            n_saved += persist::save(ctx, cursor).await?;
        }
        if n_saved == 0 {
            return Ok(());
        }
    }
}
