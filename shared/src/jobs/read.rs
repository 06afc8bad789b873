//! One job by its id: the row, overlaid by its lease while it runs.

use super::{
    Job, QueueName, lookup,
    queues::Durability,
    race, store,
    volatile::{self, Look},
};
use crate::{Caller, Code, Context, Error, Result, Scope, ids::JobId};

/// The job `id`, for its owner and for operators.
pub async fn get(ctx: &Context, caller: &Caller, id: JobId) -> Result<Job> {
    caller.require(Scope::JobsRead)?;
    let row = row_for(ctx, caller, id).await?;
    overlaid(ctx, row).await
}

/// Whether `caller` may see the job `id`; what there is not nobody sees.
pub async fn is_visible(ctx: &Context, caller: &Caller, id: JobId) -> Result<bool> {
    if !caller.scopes.contains(Scope::JobsRead) {
        return Ok(false);
    }
    match row_for(ctx, caller, id).await {
        Ok(_) => Ok(true),
        Err(error) if error.code == Code::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The job as it is now, whoever asks.
pub(crate) async fn current(ctx: &Context, id: JobId) -> Result<Job> {
    let found = find(ctx, id).await?.ok_or_else(|| Error::not_found("job"))?;
    overlaid(ctx, found.row).await
}

/// The queue that a job is in.
pub(super) async fn queue_of(ctx: &Context, id: JobId) -> Result<QueueName> {
    let found = find(ctx, id).await?.ok_or_else(|| Error::not_found("job"))?;
    QueueName::new(&found.row.queue)
}

/// A job, and where it is kept.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) row: store::read::JobRow,
    /// `Redis`: the row is only what it would say, since it is not there yet.
    pub(super) kept_in: Durability,
}

async fn find(ctx: &Context, id: JobId) -> Result<Option<Found>> {
    let stored = |row| Found { row, kept_in: Durability::Postgres };
    if let Some(row) = lookup::row_by_id(ctx, id).await? {
        return Ok(Some(stored(row)));
    }
    match Box::pin(volatile::find(ctx, id)).await? {
        Look::Found(row) => Ok(Some(Found { row, kept_in: Durability::Redis })),
        Look::NoSuchQueue => Ok(None),
        // It may have ended between the two looks.
        Look::Absent => Ok(lookup::row_by_id(ctx, id).await?.map(stored)),
    }
}

/// The stored row if `caller` may see it; another's job looks like none.
pub(super) async fn row_for(ctx: &Context, caller: &Caller, id: JobId) -> Result<store::read::JobRow> {
    Ok(find_for(ctx, caller, id).await?.row)
}

/// The same, with where it is kept.
pub(super) async fn find_for(ctx: &Context, caller: &Caller, id: JobId) -> Result<Found> {
    let found = find(ctx, id).await?;
    let may_see = |found: &Found| caller.owner_filter().is_none_or(|owner_id| owner_id == found.row.owner_id);
    found.filter(may_see).ok_or_else(|| Error::not_found("job"))
}

async fn overlaid(ctx: &Context, row: store::read::JobRow) -> Result<Job> {
    // Most reads are of jobs that are over: they cost no call to Redis.
    let lease = if row.is_pending() { race::lease(ctx, &row).await } else { None };
    row.into_job(lease, ctx.clock.now())
}
