//! Unique keys: of the jobs of one owner, kind and key one is taken at a time, and a submit that meets it is answered as it
//! asked to be.
//!
//! The key is taken by the statement that writes the job, so there is no moment at which one stands without the other. A job
//! that was deleted holds its key no longer: its row in `job_unique` is then a leftover, overwritten by whoever comes next.

use super::{
    Job, NewJob, QueueName,
    new_job::{OnConflict, Unique},
    race, read,
    store::{self, read::JobRow},
    write::{self, Target, Written},
};
use crate::{
    Code, Context, Error, Result,
    ids::{JobId, UserId},
};
use sqlx::PgConnection;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
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

/// What submits get whose keys are held, each by the job beside it. `ours` were written by the same request, and are never replaced
/// by it.
///
/// `ctx` must have connections of its own beside the target's.
pub(super) async fn meet_each(
    ctx: &Context,
    mut target: Target<'_>,
    held: Vec<(NewJob, JobId)>,
    ours: &HashSet<JobId>,
) -> Vec<Result<Accepted>> {
    let mut verdicts = Vec::with_capacity(held.len());
    let mut open = Vec::new();
    for (at, (job, holder)) in held.into_iter().enumerate() {
        verdicts.push(match unique_of(&job).map(|unique| unique.on_conflict).unwrap_or_default() {
            OnConflict::Reject => Err(duplicate(holder)),
            OnConflict::Replace if !ours.contains(&holder) => {
                open.push(Open { at, job, holder });
                Ok(Accepted::Existing(holder))
            }
            OnConflict::ReturnExisting | OnConflict::Replace => Ok(Accepted::Existing(holder)),
        });
    }
    for _ in 0..ROUNDS_MAX {
        if open.is_empty() {
            break;
        }
        open = match replace(ctx, &mut target, open, &mut verdicts).await {
            Ok(open) => open,
            Err((error, failed)) => {
                let cause = Arc::new(error);
                failed
                    .iter()
                    .for_each(|at| verdicts[*at] = Err(Error::new(cause.code, cause.detail.clone()).caused_by(Arc::clone(&cause))));
                break;
            }
        };
    }
    verdicts
}

/// The same of one.
pub(super) async fn meet(ctx: &Context, target: Target<'_>, job: NewJob, holder: JobId) -> Result<Accepted> {
    meet_each(ctx, target, vec![(job, holder)], &HashSet::new()).await.pop().expect("there is a verdict for each job")
}

/// A job that wants the key of another.
struct Open {
    at: usize,
    job: NewJob,
    holder: JobId,
}

/// Takes the keys over from jobs that no worker has, in one transaction with the wish to cancel those; they are cancelled when the
/// new ones are announced. Returns those whose key changed hands meanwhile; what is not among them has its verdict, which says
/// beforehand that the other stays.
async fn replace(
    ctx: &Context,
    target: &mut Target<'_>,
    open: Vec<Open>,
    verdicts: &mut [Result<Accepted>],
) -> std::result::Result<Vec<Open>, (Error, Vec<usize>)> {
    let places = open.iter().map(|open| open.at).collect::<Vec<_>>();
    let holders = open.iter().map(|open| open.holder).collect::<Vec<_>>();
    let in_transaction = matches!(target, Target::Transaction(_));
    let standings = standings(ctx, &holders).await.map_err(|error| (error, places.clone()))?;
    let may_go = |open: &Open| match standings.get(&open.holder) {
        Some(Standing::Running) => false,
        Some(Standing::Waits(_) | Standing::Over) => true,
        // Deleted, unless our own transaction wrote it, which others cannot see.
        None => !in_transaction,
    };
    let mut taking = open.into_iter().filter(may_go).collect::<Vec<_>>();
    if taking.is_empty() {
        return Ok(taking);
    }
    let written = write::take_over(target, &taking.iter().map(|open| (&open.job, open.holder)).collect::<Vec<_>>(), ctx.clock.now()).await;
    let written = written.map_err(|error| (error, places))?;
    let ours =
        taking.iter().zip(&written).filter(|(_, written)| **written == Written::New).map(|(open, _)| open.job.id).collect::<HashSet<_>>();
    let mut again = Vec::new();
    for (mut open, written) in taking.drain(..).zip(written) {
        match written {
            Written::New => {
                if let (Some(Standing::Waits(queue)), Some(unique)) = (standings.get(&open.holder), open.job.unique.as_mut()) {
                    unique.replaces = Some((queue.clone(), open.holder));
                }
                verdicts[open.at] = Ok(Accepted::New(open.job));
            }
            Written::Held(holder) => {
                verdicts[open.at] = Ok(Accepted::Existing(holder));
                if !ours.contains(&holder) {
                    again.push(Open { holder, ..open });
                }
            }
        }
    }
    Ok(again)
}

/// How the holder of a key stands.
enum Standing {
    /// On this queue.
    Waits(QueueName),
    Running,
    Over,
}

async fn standings(ctx: &Context, ids: &[JobId]) -> Result<HashMap<JobId, Standing>> {
    let rows = store::read::jobs_by_ids(&ctx.pg, ids).await?;
    let leases = race::leases(ctx, &rows).await;
    let standing_of = |row: JobRow| {
        let is_running = leases.get(&row.id).is_some_and(|lease| lease.started);
        let standing = match (row.is_live(), is_running) {
            (false, _) => Standing::Over,
            (true, true) => Standing::Running,
            (true, false) => Standing::Waits(QueueName::new(&row.queue)?),
        };
        Ok((row.id, standing))
    };
    rows.into_iter().map(standing_of).collect()
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
