//! Unique keys: of the jobs of one owner, kind and key one is taken at a time, and a submit that meets it is answered as it
//! asked to be.
//!
//! The key is taken by the statement that writes the job, so there is no moment at which one stands without the other. A job
//! that was deleted holds its key no longer: its row in `job_unique` is then a leftover, overwritten by whoever comes next.

use super::{
    Job, NewJob, QueueName,
    engine::{self, MadeWay},
    new_job::{OnConflict, Unique},
    read, store,
    write::{self, Target, Written},
};
use crate::{
    Code, Context, Error, Result,
    ids::{JobId, UserId},
};
use sqlx::PgConnection;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use uuid::Uuid;

/// A key may change hands while it is looked at; so often it is looked at anew.
const ROUNDS_MAX: usize = 5;

/// A job that was taken in: its own, or the one that it is a duplicate of.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are new, and a box each would cost more than it saves")]
pub enum Accepted {
    New(NewJob),
    Existing(JobId),
}

/// Writes those of `jobs` whose key is free or held by one of `replaced`, in few statements, and answers for each in order.
/// Of several with one key the first stands for all.
pub(super) async fn insert(connection: &mut PgConnection, jobs: &[&NewJob], mut replaced: Vec<Uuid>) -> sqlx::Result<Vec<Written>> {
    let mut firsts: HashMap<(UserId, &str, &str), usize> = HashMap::with_capacity(jobs.len());
    let stands_for = jobs.iter().enumerate().map(|(at, job)| *firsts.entry(key_of(job)).or_insert(at)).collect::<Vec<_>>();
    let mut verdicts: Vec<Option<Written>> = vec![None; jobs.len()];
    let mut open = firsts.into_values().collect::<Vec<_>>();
    for _ in 0..ROUNDS_MAX {
        let asked = open.iter().map(|at| jobs[*at]).collect::<Vec<_>>();
        let written = store::unique::insert_unclaimed(&mut *connection, &asked, &replaced).await?;
        let written = written.into_iter().collect::<HashSet<_>>();
        open.retain(|at| {
            let is_new = written.contains(&jobs[*at].id);
            verdicts[*at] = is_new.then_some(Written::New);
            !is_new
        });
        if open.is_empty() {
            break;
        }
        let asked = open.iter().map(|at| jobs[*at]).collect::<Vec<_>>();
        for holder in store::unique::holders(&mut *connection, &asked).await? {
            let at = usize::try_from(holder.ordinal - 1).ok().and_then(|ordinal| open.get(ordinal));
            match at {
                Some(at) if holder.is_there => verdicts[*at] = Some(Written::Held(holder.job_id)),
                Some(_) | None => replaced.push(holder.job_id.0),
            }
        }
        open.retain(|at| verdicts[*at].is_none());
        if open.is_empty() {
            break;
        }
    }
    let verdict_of = |(at, first): (usize, usize)| match verdicts[first] {
        Some(Written::New) if at != first => Ok(Written::Held(jobs[first].id)),
        Some(written) => Ok(written),
        None => Err(sqlx::Error::Protocol("a unique key kept changing hands".to_owned())),
    };
    stands_for.into_iter().enumerate().map(verdict_of).collect()
}

fn key_of(job: &NewJob) -> (UserId, &str, &str) {
    (job.owner_id, job.kind.as_str(), unique_of(job).map_or("", |unique| unique.key.as_str()))
}

fn unique_of(job: &NewJob) -> Option<&Unique> {
    job.unique.as_ref()
}

/// What a submit gets whose key `holder` holds. `ours` were written by the same request, and are never replaced by it.
///
/// `ctx` must have connections of its own beside the target's.
pub(super) async fn meet(ctx: &Context, target: Target<'_>, job: NewJob, holder: JobId, ours: &HashSet<JobId>) -> Result<Accepted> {
    match unique_of(&job).map(|unique| unique.on_conflict).unwrap_or_default() {
        OnConflict::ReturnExisting => Ok(Accepted::Existing(holder)),
        OnConflict::Reject => Err(duplicate(holder)),
        OnConflict::Replace => replace(ctx, target, job, holder, ours).await,
    }
}

async fn replace(ctx: &Context, mut target: Target<'_>, job: NewJob, mut holder: JobId, ours: &HashSet<JobId>) -> Result<Accepted> {
    for _ in 0..ROUNDS_MAX {
        if ours.contains(&holder) {
            return Ok(Accepted::Existing(holder));
        }
        match make_way(ctx, holder).await? {
            Some(MadeWay::Ended) => {}
            Some(MadeWay::IsRunning) => return Ok(Accepted::Existing(holder)),
            // Deleted, unless our own transaction wrote it, which others cannot see.
            None if matches!(target, Target::Transaction(_)) => return Ok(Accepted::Existing(holder)),
            None => {}
        }
        match write::insert_replacing(&mut target, &job, holder).await? {
            Written::New => return Ok(Accepted::New(job)),
            Written::Held(other) => holder = other,
        }
    }
    Ok(Accepted::Existing(holder))
}

/// Cancels a job that waits; `None` when there is no such job.
async fn make_way(ctx: &Context, id: JobId) -> Result<Option<MadeWay>> {
    let Some(row) = store::read::jobs_by_ids(&ctx.pg, &[id]).await?.pop() else { return Ok(None) };
    if !row.is_live() {
        return Ok(Some(MadeWay::Ended));
    }
    engine::end_waiting(ctx, &QueueName::new(&row.queue)?, id).await.map(Some)
}

fn duplicate(holder: JobId) -> Error {
    let error = Error::new(Code::DuplicateJob, format!("The job {holder} has this unique key."));
    error.with_field("/unique/key", "duplicate", holder.to_string())
}

/// The job that a submit is a duplicate of, as it stands.
pub(super) async fn existing(ctx: &Context, id: JobId) -> Result<Job> {
    match read::current(ctx, id).await {
        Ok(job) => Ok(Job { duplicate: true, ..job }),
        Err(error) if error.code == Code::NotFound => {
            let detail = "The job that held the unique key was deleted at this moment.";
            Err(Error::new(Code::Conflict, detail).retry_after(Duration::from_secs(1)))
        }
        Err(error) => Err(error),
    }
}

/// Forgets keys whose time is over, at most `limit` at once; returns how many.
pub async fn prune(ctx: &Context, limit: i64) -> Result<u64> {
    Ok(store::unique::delete_expired(&ctx.pg, limit).await?)
}
