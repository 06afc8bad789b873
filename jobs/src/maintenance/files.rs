//! The leader's look for what uploads, deletions and crashes left of files.

use super::rounds::Rounds;
use shared::{Context, files::sweep};
use std::time::Duration;

/// What is left takes up room and does no other harm. Where files are given up sooner than that, it looks as often.
const EVERY: Duration = Duration::from_mins(1);

/// Sweeps for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let every = EVERY.min(Duration::from_secs(ctx.settings().file_unfinished_s));
    let mut rounds = Rounds::every("files", every);
    loop {
        rounds.begin().await;
        rounds.end(sweep::keep_house(ctx).await);
    }
}
