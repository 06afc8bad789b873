//! The leader's saving of publications: what was published on persisted channels moves from Redis to PostgreSQL.

use super::rounds::Rounds;
use shared::{
    Context,
    channels::persist::{self, Cursor},
};
use std::time::Duration;

/// Between passes when nothing is left behind: readers find what is not saved yet in Redis, so that this need not be fast.
const EVERY: Duration = Duration::from_secs(1);

/// Saves for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut cursor = Cursor::default();
    let mut rounds = Rounds::every("publications", EVERY);
    loop {
        rounds.begin().await;
        rounds.end(save_all(ctx, &mut cursor).await);
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
