//! What the ends of its jobs come to for a batch: its counts, and once its completion.

use super::{
    Batch, completion_of,
    store::{self, Completion},
};
use crate::{
    Caller, Code, Context, Error, Result,
    caller::Credential,
    endpoints::target,
    ids::BatchId,
    jobs::{Job, JobError, NewJob, Origin, SubmitJob, queues::Durability, submit},
};
use sqlx::PgConnection;

/// Adds what changed to the counts of a batch, and completes it if all its jobs have ended: in one transaction with the job that comes
/// of it, under the batch's lock, so that of any number who count at once one does it.
pub(in crate::jobs) async fn count(ctx: &Context, id: BatchId) -> Result<()> {
    let mut tx = ctx.pg.begin().await?;
    if !store::lock(&mut tx, id).await? {
        // Pruned; its jobs were over, or had been for long.
        store::forget_changes(&mut tx, id).await?;
        return Ok(tx.commit().await?);
    }
    let (batch, completion) = store::count(&mut tx, id).await?;
    let is_over = batch.is_over() && batch.completed_at.is_none();
    let made = if is_over { complete(ctx, &mut tx, &batch, completion).await? } else { None };
    tx.commit().await?;
    if let Some(job) = made {
        submit::announce(ctx, &[&job]).await;
    }
    Ok(())
}

/// Batches with changes that are not counted.
pub(in crate::jobs) async fn left(ctx: &Context, limit: i64) -> Result<Vec<BatchId>> {
    Ok(store::changed(&ctx.pg, limit).await?)
}

async fn complete(ctx: &Context, tx: &mut PgConnection, batch: &Batch, completion: Option<Completion>) -> Result<Option<NewJob>> {
    let now = ctx.clock.now();
    let Some(completion) = completion else {
        store::complete(tx, batch.id, now, None, None).await?;
        return Ok(None);
    };
    match submit_completion(ctx, tx, batch, &completion).await {
        Ok((job, made)) => {
            store::complete(tx, batch.id, now, Some(job.id), None).await?;
            Ok(made)
        }
        Err(error) if error.is_refusal() => {
            tracing::info!(%error, batch_id = %batch.id, "no job came of a complete batch");
            let error = JobError { code: error.code.as_str().to_owned(), message: error.detail.into_owned() };
            store::complete(tx, batch.id, now, None, Some(&error)).await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// However full its queue is, and durable whatever the queue's durability is: Redis could not hold it to this transaction.
async fn submit_completion(ctx: &Context, tx: &mut PgConnection, batch: &Batch, completion: &Completion) -> Result<(Job, Option<NewJob>)> {
    // Of another release, it may say what this one does not know.
    let on_complete: SubmitJob = serde_json::from_str(completion.submit.get())
        .map_err(|error| Error::new(Code::InvalidJson, "`on_complete` cannot be read by this release.").caused_by(error))?;
    let caller = owner(tx, batch).await?;
    let submit = completion_of(&on_complete, batch.id);
    let job = Box::pin(submit::prepare_unbounded(&ctx.for_process(), &caller, submit, Origin::default())).await?;
    let target = target::given_earlier(job.target, completion.origin.as_deref())?;
    Box::pin(submit::submit_in(ctx, tx, NewJob { durability: Durability::Postgres, target, ..job })).await
}

/// In whose name a batch submits, with what they may now.
async fn owner(tx: &mut PgConnection, batch: &Batch) -> Result<Caller> {
    match store::owner(tx, batch.owner_id).await? {
        Some((role, false)) => Ok(Caller::new(batch.owner_id, role, role.scopes(), Credential::Batch(batch.id))),
        Some((_, true)) | None => Err(Error::new(Code::Forbidden, "The owner of the batch cannot sign in.")),
    }
}
