//! Requeue a dead job: the same id and history, its failures forgotten, due now.

use super::{Job, QueueName, engine::INLINE_PAYLOAD_BYTES, kinds, race, read, store};
use crate::{Caller, Code, Context, Error, Result, Scope, ids::JobId};

pub async fn retry(ctx: &Context, caller: &Caller, id: JobId) -> Result<Job> {
    caller.require(Scope::JobsWrite)?;
    let row = read::row_for(ctx, caller, id).await?;
    kinds::admit_again(&row.kind, caller, ctx.settings().profile, Some(&row.payload.0))?;
    let inline_max = i32::try_from(INLINE_PAYLOAD_BYTES).expect("a kibibyte");
    let requeued = store::change::requeue_dead(&ctx.pg, &[id.0], ctx.clock.now(), inline_max).await?;
    if requeued.is_empty() {
        return Err(Error::new(Code::JobNotDead, "Only a dead job can be run again."));
    }
    race::enqueue_requeued(ctx, &QueueName::new(&row.queue)?, requeued).await;
    read::current(ctx, id).await
}
