//! Cancel a job: the wish is durable first, then whoever holds the job hears it.

use super::{
    Job, QueueName,
    engine::{self, CancelAnswer},
    queues::Durability,
    read::{self, Found},
    store,
};
use crate::{Caller, Code, Context, Error, Result, Scope, ids::JobId};

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

fn finished() -> Error {
    Error::new(Code::JobFinished, "The job is over; there is nothing to cancel.")
}
