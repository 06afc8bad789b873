//! The leader's look after what ended jobs leave to be done for others: jobs that wait for them, and batches.
//!
//! Whoever ends a job does that at once. Here comes what a killed process left, what was to be done while a server was away, and what
//! nobody could tell.

use super::rounds::Rounds;
use shared::{
    Context,
    jobs::aftermath::{self, Cursor},
};
use std::time::Duration;

/// Between looks for what is noted, which cost a statement each where nothing is.
const EVERY: Duration = Duration::from_secs(1);

/// Follows up for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    tokio::join!(see_to_all(ctx), look_on(ctx));
}

async fn see_to_all(ctx: &Context) {
    let mut rounds = Rounds::every("following", EVERY);
    loop {
        rounds.begin().await;
        rounds.end(aftermath::see_to_all(ctx).await);
    }
}

/// A pass that fails leaves the cursor where it came to.
async fn look_on(ctx: &Context) {
    let every = Duration::from_millis(ctx.settings().worker_reconcile_ms);
    let mut cursor = Cursor::default();
    let mut rounds = Rounds::every("looking_on", every);
    loop {
        rounds.begin().await;
        rounds.end(aftermath::look_on(ctx, &mut cursor).await);
    }
}
