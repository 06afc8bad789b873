//! Writes many jobs in few statements, such that a row the database refuses does not take its neighbours with it.

use super::{NewJob, store::insert::insert_jobs};
use crate::{Code, Error, Result};
use sqlx::{Connection, PgConnection, PgPool};
use std::{ops::Range, sync::Arc};

/// Where rows are written.
#[derive(Debug)]
pub(super) enum Target<'a> {
    /// Each statement commits by itself.
    Pool(&'a PgPool),
    /// Inside the caller's transaction, which survives a refused statement.
    Transaction(&'a mut PgConnection),
}

/// One statement if all goes well; a batch that the database refuses for its data is halved until the bad rows stand alone.
/// Answers for each job in order.
pub(super) async fn insert_each(mut target: Target<'_>, jobs: &[&NewJob]) -> Vec<Result<()>> {
    let mut verdicts = jobs.iter().map(|_| Ok(())).collect::<Vec<Result<()>>>();
    let whole = Range { start: 0, end: jobs.len() };
    let mut parts = vec![whole];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        match insert(&mut target, &jobs[part.clone()]).await {
            Ok(()) => {}
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

async fn insert(target: &mut Target<'_>, jobs: &[&NewJob]) -> sqlx::Result<()> {
    match target {
        Target::Pool(pool) => insert_jobs(*pool, jobs).await,
        Target::Transaction(transaction) => {
            let mut savepoint = transaction.begin().await?;
            insert_jobs(&mut *savepoint, jobs).await?;
            savepoint.commit().await
        }
    }
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
