//! Cancel a job: the wish is durable first, then whoever holds the job hears it.

use super::{
    Job, QueueName, dependencies,
    engine::{self, CancelAnswer},
    queues::Durability,
    read::{self, Found},
    store,
};
use crate::{Caller, Code, Context, Error, Result, Scope, ids::JobId};
use sqlx::PgConnection;
use time::OffsetDateTime;

/// What a cancel came to.
#[derive(Debug)]
pub enum Cancelled {
    /// It never runs (again).
    Done(Job),
    /// A worker runs it and has been told to stop; a success that is already being written still wins.
    Signalled(Job),
}

pub async fn cancel(ctx: &Context, caller: &Caller, id: JobId) -> Result<Cancelled> {
    caller.require(Scope::JobsWrite)?;
    let Found { row, kept_in } = read::find_for(ctx, caller, id).await?;
    if row.is_waiting() && dependencies::cancel_waiting(ctx, id).await? {
        return Ok(Cancelled::Done(read::current(ctx, id).await?));
    }
    let queue = match kept_in {
        Durability::Postgres => store::change::request_cancel(&ctx.pg, id, ctx.clock.now()).await?.ok_or_else(finished)?,
        // Its lease is where the wish is kept.
        Durability::Redis => row.queue,
    };
    match engine::cancel(ctx, &QueueName::new(&queue)?, id).await? {
        CancelAnswer::Cancelled => Ok(Cancelled::Done(read::current(ctx, id).await?)),
        CancelAnswer::Signalled => Ok(Cancelled::Signalled(read::current(ctx, id).await?)),
        CancelAnswer::Ended("") => Err(Error::not_found("job")),
        CancelAnswer::Ended(_) => Err(finished()),
    }
}

/// Writes the wish to cancel jobs, in the caller's transaction; [`carry_out`] each after the commit.
pub(crate) async fn request(tx: &mut PgConnection, jobs: &[(JobId, QueueName)], now: OffsetDateTime) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let ids = jobs.iter().map(|(id, _)| id.0).collect::<Vec<_>>();
    Ok(store::change::request_cancels(tx, &ids, now).await?)
}

/// Cancels a job whose wish is committed. What does not succeed here is left to the reconciler and to the job's next conclusion.
pub(crate) async fn carry_out(ctx: &Context, queue: &QueueName, id: JobId) {
    if let Err(error) = engine::cancel(ctx, queue, id).await {
        tracing::warn!(%error, %queue, job_id = %id, "a job is not cancelled yet; the reconciler will");
    }
}

fn finished() -> Error {
    Error::new(Code::JobFinished, "The job is over; there is nothing to cancel.")
}
