//! What the elected process keeps in order: who is elected, partitions ahead of time, retention.

use super::{
    reconcile::id_floor,
    store::{self, QueueRow},
};
use crate::{Context, Error, Result, pg::direct_options};
use sqlx::{Connection, PgConnection};
use std::time::Duration;

/// Days of ended jobs that have their partition ahead of time.
const DAYS_AHEAD: i32 = 7;
/// Rows that one statement removes, and statements in one go: no long lock, no endless run.
const PRUNE_ROWS: i64 = 1_000;
const PRUNE_ROUNDS: usize = 200;

/// How long the server waits for a word of a candidate or leader, which has one every second. A process that is stopped, or cut
/// off, would otherwise keep the lock for as long as its connection seems to stand, and nothing would be swept meanwhile.
const SILENCE_MAX: &str = "5s";

/// A connection past any pooler, to try for leadership on. The server ends it when nothing is heard of it for five seconds.
pub async fn candidate(ctx: &Context) -> Result<PgConnection> {
    let options = direct_options(&ctx.settings())?.options([("idle_session_timeout", SILENCE_MAX)]);
    PgConnection::connect_with(&options).await.map_err(Error::from)
}

/// Whether `connection` holds the maintenance lock now; it does until it ends.
pub async fn try_lead(connection: &mut PgConnection) -> Result<bool> {
    Ok(store::try_lead(connection).await?)
}

pub async fn queues(ctx: &Context) -> Result<Vec<QueueRow>> {
    store::queues(&ctx.pg).await
}

/// Makes the partitions of the coming days; those that exist stay.
pub async fn add_days(ctx: &Context) -> Result<()> {
    let n_added = store::upkeep::add_days(&ctx.pg, ctx.clock.now().date(), DAYS_AHEAD).await?;
    if n_added > 0 {
        tracing::info!(n_added, "made partitions for ended jobs");
    }
    Ok(())
}

/// Removes ended jobs past their retention, and returns how many.
pub async fn prune(ctx: &Context) -> Result<u64> {
    let default_s = u64::from(ctx.settings().job_retention_days) * 86_400;
    let mut n_removed = 0;
    for retention in store::upkeep::retentions(&ctx.pg).await? {
        let others_s = retention.succeeded_s.map_or(default_s, |seconds| u64::try_from(seconds).unwrap_or(0));
        let dead_s = u64::try_from(retention.dead_s).unwrap_or(0);
        for (state, kept_s) in [("succeeded", others_s), ("cancelled", others_s), ("expired", others_s), ("dead", dead_s)] {
            n_removed += prune_state(ctx, &retention.queue, state, Duration::from_secs(kept_s)).await?;
        }
    }
    Ok(n_removed)
}

async fn prune_state(ctx: &Context, queue: &str, state: &str, kept: Duration) -> Result<u64> {
    let cutoff = ctx.clock.now() - kept;
    let mut n_removed = 0;
    for _ in 0..PRUNE_ROUNDS {
        let n = store::upkeep::prune_ended(&ctx.pg, queue, state, id_floor(cutoff), cutoff, PRUNE_ROWS).await?;
        n_removed += n.unsigned_abs();
        if n < PRUNE_ROWS {
            break;
        }
    }
    Ok(n_removed)
}
