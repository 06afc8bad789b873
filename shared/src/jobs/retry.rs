//! Requeue a dead job: the same id and history, its failures forgotten, due now.

use super::{Job, race, read, store};
use crate::{Caller, Code, Context, Error, Result, Scope, ids::JobId};

pub async fn retry(ctx: &Context, caller: &Caller, id: JobId) -> Result<Job> {
    caller.require(Scope::JobsWrite)?;
    read::row_for(ctx, caller, id).await?;
    let requeued = store::change::requeue_dead(&ctx.pg, id, ctx.clock.now()).await?;
    let requeued = requeued.ok_or_else(|| Error::new(Code::JobNotDead, "Only a dead job can be run again."))?;
    race::enqueue_requeued(ctx, requeued).await;
    read::current(ctx, id).await
}
