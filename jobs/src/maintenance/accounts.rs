//! The leader's removing of what deleted accounts had.

use super::rounds::Rounds;
use shared::{Context, accounts::removal};
use std::time::Duration;

/// Costs a statement where nothing is left. Nobody sees what is left, and it takes up room.
const EVERY: Duration = Duration::from_secs(5);

/// Removes for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut rounds = Rounds::every("accounts", EVERY);
    loop {
        rounds.begin().await;
        rounds.end(removal::remove_deleted(ctx).await);
    }
}
