//! Writes many jobs in few statements, such that a row the database refuses does not take its neighbours with it.

use super::{
    NewJob, linked,
    store::{change::request_cancels, insert::insert_jobs},
    unique,
};
use crate::{Code, Error, Result, ids::JobId};
use sqlx::{Connection, PgConnection, PgPool};
use std::{ops::Range, sync::Arc};
use time::OffsetDateTime;

/// Where rows are written.
#[derive(Debug)]
pub(super) enum Target<'a> {
    /// Each statement commits by itself.
    Pool(&'a PgPool),
    /// The same over one connection, which is in no transaction.
    Connection(&'a mut PgConnection),
    /// Inside the caller's transaction, which survives a refused statement.
    Transaction(&'a mut PgConnection),
}

/// What became of a job that could be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    New,
    /// Its key is held by this job: nothing was written.
    Held(JobId),
}

/// One statement if all goes well; a batch that the database refuses for its data is halved until the bad rows stand alone.
/// Answers for each job in order.
pub(super) async fn insert_each(mut target: Target<'_>, jobs: &[&NewJob]) -> Vec<Result<Written>> {
    if !jobs.iter().any(|job| job.is_linked()) {
        return insert_plain(&mut target, jobs).await;
    }
    let (linked, plain): (Vec<_>, Vec<_>) = jobs.iter().copied().enumerate().partition(|(_, job)| job.is_linked());
    let (places, jobs): (Vec<usize>, Vec<&NewJob>) = plain.into_iter().unzip();
    let mut verdicts = places.into_iter().zip(insert_plain(&mut target, &jobs).await).collect::<Vec<_>>();
    let (places, jobs): (Vec<usize>, Vec<&NewJob>) = linked.into_iter().unzip();
    verdicts.extend(places.into_iter().zip(Box::pin(linked::insert_each(&mut target, &jobs)).await));
    verdicts.sort_unstable_by_key(|(place, _)| *place);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

/// The same without what ties them to others.
pub(super) async fn insert_plain(target: &mut Target<'_>, jobs: &[&NewJob]) -> Vec<Result<Written>> {
    if jobs.iter().all(|job| job.unique.is_none()) {
        return halving(target, jobs).await;
    }
    let (with_key, plain): (Vec<_>, Vec<_>) = jobs.iter().copied().enumerate().partition(|(_, job)| job.unique.is_some());
    let mut verdicts = Vec::with_capacity(jobs.len());
    for part in [plain, with_key] {
        let (places, jobs): (Vec<usize>, Vec<&NewJob>) = part.into_iter().unzip();
        verdicts.extend(places.into_iter().zip(halving(target, &jobs).await));
    }
    verdicts.sort_unstable_by_key(|(place, _)| *place);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

/// Writes jobs whose keys those beside them may hold, and the wish to cancel each that lost its key, in one transaction.
pub(super) async fn take_over(target: &mut Target<'_>, jobs: &[(&NewJob, JobId)], now: OffsetDateTime) -> Result<Vec<Written>> {
    match target {
        Target::Pool(pool) => take_over_on(&mut *pool.acquire().await?, jobs, now).await,
        Target::Connection(connection) | Target::Transaction(connection) => take_over_on(connection, jobs, now).await,
    }
    .map_err(|error| verdict_of(&Arc::new(error)))
}

async fn take_over_on(connection: &mut PgConnection, jobs: &[(&NewJob, JobId)], now: OffsetDateTime) -> sqlx::Result<Vec<Written>> {
    let (new, holders): (Vec<&NewJob>, Vec<JobId>) = jobs.iter().copied().unzip();
    let mut tx = connection.begin().await?;
    let written = unique::insert(&mut tx, &new, holders.iter().map(|id| id.0).collect()).await?;
    let is_new = |(holder, written): (JobId, &Written)| (*written == Written::New).then_some(holder.0);
    let replaced = holders.into_iter().zip(&written).filter_map(is_new).collect::<Vec<_>>();
    request_cancels(&mut *tx, &replaced, now).await?;
    tx.commit().await?;
    Ok(written)
}

/// `jobs` have all a unique key, or none.
async fn halving(target: &mut Target<'_>, jobs: &[&NewJob]) -> Vec<Result<Written>> {
    let mut verdicts = jobs.iter().map(|_| Ok(Written::New)).collect::<Vec<Result<Written>>>();
    let whole = Range { start: 0, end: jobs.len() };
    let mut parts = vec![whole];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        match insert(target, &jobs[part.clone()]).await {
            Ok(None) => {}
            Ok(Some(written)) => verdicts[part].iter_mut().zip(written).for_each(|(verdict, written)| *verdict = Ok(written)),
            Err(error) if is_data_error(&error) && part.len() > 1 => {
                let middle = part.start + part.len() / 2;
                parts.extend([middle..part.end, part.start..middle]);
            }
            Err(error) => {
                let cause = Arc::new(error);
                verdicts[part].iter_mut().for_each(|verdict| *verdict = Err(verdict_of(&cause)));
            }
        }
    }
    verdicts
}

/// `None`: all are new.
async fn insert(target: &mut Target<'_>, jobs: &[&NewJob]) -> sqlx::Result<Option<Vec<Written>>> {
    let has_keys = jobs.iter().any(|job| job.unique.is_some());
    match target {
        Target::Pool(pool) if has_keys => {
            let mut connection = pool.acquire().await?;
            Ok(Some(unique::insert(&mut connection, jobs, Vec::new()).await?))
        }
        Target::Pool(pool) => insert_jobs(*pool, jobs).await.map(|()| None),
        Target::Connection(connection) if has_keys => Ok(Some(unique::insert(connection, jobs, Vec::new()).await?)),
        Target::Connection(connection) => insert_jobs(&mut **connection, jobs).await.map(|()| None),
        Target::Transaction(transaction) => {
            let mut savepoint = transaction.begin().await?;
            let written = if has_keys {
                Some(unique::insert(&mut savepoint, jobs, Vec::new()).await?)
            } else {
                insert_jobs(&mut *savepoint, jobs).await?;
                None
            };
            savepoint.commit().await?;
            Ok(written)
        }
    }
}

/// The verdicts of `n_jobs` jobs that no connection was to be had for.
pub(super) fn all_refused(error: sqlx::Error, n_jobs: usize) -> Vec<Result<Written>> {
    let cause = Arc::new(error);
    (0..n_jobs).map(|_| Err(verdict_of(&cause))).collect()
}

/// Classes 22 (data) and 23 (constraint), and 54 (a limit of the server, such as nesting).
fn is_data_error(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

/// Callers who share a statement share its failure; each gets an error of their own with the same cause.
fn verdict_of(cause: &Arc<sqlx::Error>) -> Error {
    if is_data_error(cause) {
        return Error::new(Code::InvalidText, "The database cannot hold this job.").caused_by(Arc::clone(cause));
    }
    Error::from_sqlx(cause).caused_by(Arc::clone(cause))
}
