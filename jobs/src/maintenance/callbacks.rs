//! The leader's look for receivers that said they would call back, and did not in time.

use super::rounds::Rounds;
use shared::{Context, Result, endpoints::callbacks};
use std::time::Duration;

/// How late a wait may end.
const EVERY: Duration = Duration::from_secs(1);

/// Ends waits for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut rounds = Rounds::every("callbacks", EVERY);
    loop {
        rounds.begin().await;
        rounds.end(expire_all(ctx).await);
    }
}

async fn expire_all(ctx: &Context) -> Result<()> {
    while callbacks::expire(ctx).await? {}
    Ok(())
}
