//! The leader's look for what deleted tracks left, and for users who have too many dead letters of points.

use super::rounds::Rounds;
use shared::{
    Context, Result,
    points::{trim, upkeep},
};
use std::time::Duration;

/// Who has too many dead letters gets more of them for no longer than this.
const EVERY: Duration = Duration::from_mins(1);
/// What deleted tracks left is removed for so long each time: nobody sees it, and others want the disk too.
const CLEARING: Duration = Duration::from_secs(20);

/// Trims and clears for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut rounds = Rounds::every("points", EVERY);
    loop {
        rounds.begin().await;
        rounds.end(look(ctx).await);
    }
}

async fn look(ctx: &Context) -> Result<()> {
    trim::trim_dead(ctx).await?;
    upkeep::clear_removed(ctx, CLEARING).await
}
