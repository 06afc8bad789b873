//! What the leader does with batches from time to time: counts anew what was not told, and removes what is old.

use super::{counting, store::upkeep as store};
use crate::{Context, Result};
use time::Duration;

/// Batches that one pass counts anew.
const RECOUNTS: i64 = 100;
/// Batches younger than this are left alone: their jobs are most likely told of.
const RECOUNTED_AFTER: Duration = Duration::minutes(10);

/// Closed batches without any live job that are not complete: their jobs were ended by code that tells no batch. Returns how many.
pub async fn recount(ctx: &Context) -> Result<usize> {
    let stuck = store::stuck(&ctx.pg, ctx.clock.now() - RECOUNTED_AFTER, RECOUNTS).await?;
    for id in &stuck {
        store::recount(&ctx.pg, *id).await?;
        counting::count(ctx, *id).await?;
    }
    Ok(stuck.len())
}

/// Removes batches whose jobs ended longer than `JOB_RETENTION_DAYS` ago, or that were never closed and had nothing to do for as long;
/// at most `limit` jobs' membership at once. Returns how much was removed.
pub async fn prune(ctx: &Context, limit: i64) -> Result<u64> {
    let cutoff = ctx.clock.now() - Duration::days(i64::from(ctx.settings().job_retention_days));
    Ok(store::prune(&ctx.pg, cutoff, limit).await?)
}
