//! Writes jobs that are tied to others: members of a batch, and jobs that wait. Each lot is one transaction, so that no job is there
//! without what ties it.

use super::{
    NewJob,
    batches::{self, store::OpenBatch},
    dependencies::store,
    write::{self, Target, Written},
};
use crate::{Code, Error, Result, ids::BatchId};
use sqlx::{Connection, PgConnection};
use std::collections::HashMap;

/// Writes `jobs` and answers for each in order. A job whose batch takes none is refused; what ties one that is `Held` is not written.
pub(super) async fn insert_each(target: &mut Target<'_>, jobs: &[&NewJob]) -> Vec<Result<Written>> {
    let written = match target {
        Target::Pool(pool) => match pool.acquire().await {
            Ok(mut connection) => insert_on(&mut connection, jobs).await,
            Err(error) => Err(error),
        },
        Target::Connection(connection) | Target::Transaction(connection) => insert_on(connection, jobs).await,
    };
    written.unwrap_or_else(|error| write::all_refused(error, jobs.len()))
}

/// In a transaction of its own, or in a savepoint of the one that is open.
async fn insert_on(connection: &mut PgConnection, jobs: &[&NewJob]) -> sqlx::Result<Vec<Result<Written>>> {
    let mut tx = connection.begin().await?;
    let mut verdicts = admit(&mut tx, jobs).await?;
    let admitted = jobs.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_ok()).map(|(job, _)| *job).collect::<Vec<_>>();
    let written = write::insert_plain(&mut Target::Transaction(&mut tx), &admitted).await;
    let is_new = |(_, written): &(&NewJob, &Result<Written>)| matches!(written, Ok(Written::New));
    let new = admitted.iter().copied().zip(&written).filter(is_new).map(|(job, _)| job).collect::<Vec<_>>();
    store::tie(&mut tx, &new).await?;
    tx.commit().await?;
    verdicts.iter_mut().filter(|verdict| verdict.is_ok()).zip(written).for_each(|(verdict, written)| *verdict = written);
    Ok(verdicts)
}

/// Refuses jobs whose batch is closed, full or not their owner's. Batches that take them stay open until the transaction ends.
async fn admit(tx: &mut PgConnection, jobs: &[&NewJob]) -> sqlx::Result<Vec<Result<Written>>> {
    let mut asked = jobs.iter().filter_map(|job| job.batch_id).collect::<Vec<_>>();
    asked.sort_unstable();
    asked.dedup();
    let open = if asked.is_empty() { Vec::new() } else { batches::store::keep_open(tx, &asked).await? };
    let mut open = open.into_iter().map(|batch| (batch.id, batch)).collect::<HashMap<BatchId, OpenBatch>>();
    Ok(jobs.iter().map(|job| room(job, &mut open).map(|()| Written::New)).collect())
}

fn room(job: &NewJob, open: &mut HashMap<BatchId, OpenBatch>) -> Result<()> {
    let Some(id) = job.batch_id else { return Ok(()) };
    match open.get_mut(&id).filter(|batch| batch.owner_id == job.owner_id) {
        None => Err(Error::invalid("/batch_id", "not_found", "is no batch of yours")),
        Some(batch) if batch.closed => Err(Error::new(Code::BatchClosed, format!("The batch {id} is closed; it takes no more jobs."))),
        Some(batch) if batch.room == 0 => Err(Error::invalid("/batch_id", "range", "is a batch that has as many jobs as one may have")),
        Some(batch) => {
            batch.room -= 1;
            Ok(())
        }
    }
}
