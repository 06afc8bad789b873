//! The leader's slowest loop: partitions ahead of time, and what is past its retention.

use super::rounds::Rounds;
use shared::{
    Context, Result, accounts,
    channels::persist,
    idempotency,
    jobs::{batches, engine::upkeep, unique},
    points, schedules,
};
use std::time::Duration;

const EVERY: Duration = Duration::from_mins(10);
/// Rows that one statement removes, and statements in one go: no long lock, no endless run.
const ROWS: i64 = 1_000;
const ROUNDS: usize = 200;

/// Keeps house for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut rounds = Rounds::every("upkeep", EVERY);
    loop {
        rounds.begin().await;
        rounds.end(keep(ctx).await);
    }
}

async fn keep(ctx: &Context) -> Result<()> {
    upkeep::add_days(ctx).await?;
    persist::keep_house(ctx).await?;
    points::upkeep::keep_house(ctx).await?;
    let n_pruned = upkeep::prune(ctx).await?;
    if n_pruned > 0 {
        tracing::info!(n_jobs = n_pruned, "ended jobs past their retention were removed");
    }
    let n_recounted = batches::upkeep::recount(ctx).await?;
    if n_recounted > 0 {
        tracing::info!(n_recounted, "batches were counted anew");
    }
    for _ in 0..ROUNDS {
        let n_keys = idempotency::prune(&ctx.pg, ROWS).await?;
        let n_accounts = accounts::prune::prune(ctx, ROWS).await?;
        let n_unique = unique::prune(ctx, ROWS).await?;
        let n_runs = schedules::fire::prune(ctx, ROWS).await?;
        let n_batches = batches::upkeep::prune(ctx, ROWS).await?;
        if n_keys.max(n_accounts).max(n_unique).max(n_runs).max(n_batches) < ROWS.unsigned_abs() {
            break;
        }
    }
    Ok(())
}
