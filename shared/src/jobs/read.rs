//! One job by its id: the row, overlaid by its lease while it runs.

use super::{Job, lookup, race, store};
use crate::{Caller, Context, Error, Result, Scope, ids::JobId};

/// The job `id`, for its owner and for operators.
pub async fn get(ctx: &Context, caller: &Caller, id: JobId) -> Result<Job> {
    caller.require(Scope::JobsRead)?;
    let row = row_for(ctx, caller, id).await?;
    overlaid(ctx, row).await
}

/// The job as it is now, whoever asks.
pub(super) async fn current(ctx: &Context, id: JobId) -> Result<Job> {
    let row = lookup::row_by_id(ctx, id).await?.ok_or_else(|| Error::not_found("job"))?;
    overlaid(ctx, row).await
}

/// The stored row if `caller` may see it; another's job looks like none.
pub(super) async fn row_for(ctx: &Context, caller: &Caller, id: JobId) -> Result<store::read::JobRow> {
    let row = lookup::row_by_id(ctx, id).await?;
    row.filter(|row| caller.owner_filter().is_none_or(|owner_id| owner_id == row.owner_id)).ok_or_else(|| Error::not_found("job"))
}

async fn overlaid(ctx: &Context, row: store::read::JobRow) -> Result<Job> {
    // Most reads are of jobs that are over: they cost no call to Redis.
    let lease = if row.is_pending() { race::lease(ctx, &row).await } else { None };
    row.into_job(lease, ctx.clock.now())
}
