//! Delete a job with its history, unless a worker holds it.

use super::{
    QueueName, aftermath,
    engine::{self, Taken},
    queues::Durability,
    read::{self, Found},
    store,
};
use crate::{Caller, Code, Context, Error, Result, Scope, ids::JobId};

pub async fn delete(ctx: &Context, caller: &Caller, id: JobId) -> Result<()> {
    caller.require(Scope::JobsWrite)?;
    let Found { row, kept_in } = read::find_for(ctx, caller, id).await?;
    if kept_in == Durability::Redis {
        return delete_volatile(ctx, &QueueName::new(&row.queue)?, id).await;
    }
    if !row.is_live() {
        return gone(store::change::delete_ended(&ctx.pg, id).await?);
    }
    let queue = QueueName::new(&row.queue)?;
    match engine::take_to_delete(ctx, &queue, id).await? {
        Taken::Running | Taken::Settling => Err(running()),
        Taken::Absent => gone(delete_live(ctx, id, row.attempt + 1).await?),
        Taken::Taken(token, standing) => {
            // Deliveries that came back unspent are not in the row: it may stand well below.
            let deleted = delete_live(ctx, id, token.attempt).await?;
            // Without this the copy goes back after a lease's length, and is found to have no row.
            if let Err(error) = engine::forget(ctx, &queue, token, standing).await {
                tracing::warn!(%error, job_id = %id, "a deleted job's copy stays until its lease expires");
            }
            gone(deleted)
        }
    }
}

/// There is no row yet: what Redis holds of it is all there is, but for the attempts that failed.
async fn delete_volatile(ctx: &Context, queue: &QueueName, id: JobId) -> Result<()> {
    match engine::take_to_delete(ctx, queue, id).await? {
        Taken::Running | Taken::Settling => Err(running()),
        Taken::Absent => gone(store::change::delete_ended(&ctx.pg, id).await?),
        Taken::Taken(token, standing) => {
            engine::forget(ctx, queue, token, standing).await?;
            Ok(store::change::delete_attempts(&ctx.pg, &[id.0]).await?)
        }
    }
}

/// `false` when the job ended or ran since it was looked at.
async fn delete_live(ctx: &Context, id: JobId, taken: i32) -> Result<bool> {
    let deleted = store::change::delete_live(&ctx.pg, id, taken).await?;
    aftermath::note(ctx, deleted.iter().map(|deleted| (deleted.awaited, deleted.batch_id)));
    Ok(deleted.is_some())
}

fn gone(deleted: bool) -> Result<()> {
    if deleted { Ok(()) } else { Err(running()) }
}

fn running() -> Error {
    Error::new(Code::JobRunning, "A worker holds the job; cancel it first.")
}
