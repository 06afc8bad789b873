//! Writes concurrent submits together: whatever queued while the last commit ran goes into the next statement.
//!
//! There is no linger: a lone submit is written at once, and a crowd finds itself in few large statements because each
//! commit takes a while. One flusher does it, and announces each batch to the workers while it writes the next. Where
//! commits are slow it gets help: another takes one batch of those who have waited, and the two commits share the disk.
//!
//! Jobs with a unique key have a coalescer of their own: their statement may have to wait for a transaction that holds a
//! key, and nobody else is to wait with it.

use super::{
    NewJob, race,
    store::read::jobs_by_ids,
    write::{self, Written},
};
use crate::{Code, Context, Error, Result};
use futures_util::{FutureExt, future::join};
use sqlx::{PgConnection, Postgres, pool::PoolConnection};
use std::{
    collections::{HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Fewer than this are not worth a statement beside the one that is being written.
const CROWD: usize = 32;
/// How long a batch may keep the others waiting before they get another flusher: about what writing it takes where a commit
/// costs little. Below that a second statement would only cost.
const SLOW: Duration = Duration::from_millis(2);
const FLUSHERS_MAX: usize = 4;
/// Batches that a flusher writes over one connection before it gives it back: giving back and taking cost a round trip each
/// time, but a pool of few has others waiting.
const BATCHES_PER_CONNECTION: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Coalescer {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    flushers: usize,
    /// When the last batch was taken.
    taken_at: Option<Instant>,
}

/// Who is asked to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Goes on while there is something to write.
    First,
    /// Takes one batch, so that it is gone as soon as commits are fast again.
    Helper,
}

#[derive(Debug)]
struct Waiting {
    job: NewJob,
    verdict: oneshot::Sender<Result<(NewJob, Written)>>,
}

/// Which of the coalescers a job goes through.
#[derive(Debug, Clone, Copy)]
enum Door {
    Plain,
    Unique,
}

impl Door {
    fn coalescer(self, ctx: &Context) -> &Coalescer {
        match self {
            Self::Plain => &ctx.jobs.coalescer,
            Self::Unique => &ctx.jobs.unique_coalescer,
        }
    }

    fn flushers_max(self) -> usize {
        match self {
            Self::Plain => FLUSHERS_MAX,
            // What is slow there waits for somebody's key, and so would the next statement with that key.
            Self::Unique => 1,
        }
    }
}

/// Writes `job` together with its contemporaries. Once this returns [`Written::New`] the job is durable, and announced if
/// Redis answers.
pub(super) async fn write_together(ctx: &Context, job: NewJob) -> Result<(NewJob, Written)> {
    let (verdict, written) = oneshot::channel();
    let door = if job.unique.is_some() { Door::Unique } else { Door::Plain };
    if let Some(role) = door.coalescer(ctx).push(Waiting { job, verdict }, ctx.settings().submit_queue_max, door.flushers_max())? {
        let flusher = Flusher { ctx: ctx.for_process(), door, role, is_retired: false };
        ctx.jobs.runtime.spawn(flusher.run());
    }
    written.await.unwrap_or_else(|_| Err(Error::internal("the flusher of submits ended early")))
}

impl Coalescer {
    /// A role asks the caller to start a flusher, which is already counted.
    fn push(&self, waiting: Waiting, queue_max: usize, flushers_max: usize) -> Result<Option<Role>> {
        let mut state = self.lock();
        if state.waiting.len() >= queue_max {
            let detail = "Too many jobs are waiting to be written.";
            return Err(Error::new(Code::Overloaded, detail).retry_after(Duration::from_secs(1)));
        }
        state.waiting.push_back(waiting);
        let role = match state.flushers {
            0 => Some(Role::First),
            n_flushers if n_flushers < flushers_max && state.waiting.len() >= CROWD => {
                let is_slow = state.taken_at.is_none_or(|at| at.elapsed() > SLOW);
                is_slow.then_some(Role::Helper)
            }
            _ => None,
        };
        if role.is_some() {
            state.flushers += 1;
            // The next one waits as long again, also before this one has begun.
            state.taken_at = Some(Instant::now());
        }
        Ok(role)
    }

    fn take(&self, jobs_max: usize, bytes_max: usize) -> Vec<Waiting> {
        let mut state = self.lock();
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.job.payload.get().len();
            bytes <= bytes_max
        };
        let n_jobs = state.waiting.iter().take(jobs_max).take_while(fits).count().max(1).min(state.waiting.len());
        state.taken_at = Some(Instant::now());
        state.waiting.drain(..n_jobs).collect()
    }

    /// Ends a flusher, the only one not while there is more to write.
    fn retire(&self) -> bool {
        let mut state = self.lock();
        let may_go = state.waiting.is_empty() || state.flushers > 1;
        state.flushers -= usize::from(may_go);
        may_go
    }

    #[cfg(test)]
    pub(super) fn n_flushers(&self) -> usize {
        self.lock().flushers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One flusher at work; dropping it before its end (a panic, a stopping runtime) must leave nobody waiting for ever.
struct Flusher {
    ctx: Context,
    door: Door,
    role: Role,
    is_retired: bool,
}

impl Flusher {
    fn coalescer(&self) -> &Coalescer {
        self.door.coalescer(&self.ctx)
    }

    async fn run(mut self) {
        let mut written = Vec::new();
        let mut line = Line::default();
        // A helper takes nothing before it can write: without it, the first would have got to them.
        if self.role == Role::Helper && line.open(&self.ctx).await.is_err() && self.leave() {
            return;
        }
        let mut has_written = false;
        loop {
            let (jobs_max, bytes_max) = limits(&self.ctx);
            let batch = match self.role {
                Role::Helper if has_written => Vec::new(),
                Role::First | Role::Helper => self.coalescer().take(jobs_max, bytes_max),
            };
            has_written = true;
            if batch.is_empty() && written.is_empty() && self.leave() {
                return;
            }
            (written, ()) = join(write_batch(&self.ctx, batch, &mut line), announce(&self.ctx, written)).await;
        }
    }

    /// `false`: it is the only one left, and goes on as the first.
    fn leave(&mut self) -> bool {
        self.is_retired = self.coalescer().retire();
        if !self.is_retired {
            self.role = Role::First;
        }
        self.is_retired
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        if self.is_retired {
            return;
        }
        let mut state = self.coalescer().lock();
        state.flushers -= 1;
        if state.flushers == 0 {
            state.waiting.clear();
        }
    }
}

fn limits(ctx: &Context) -> (usize, usize) {
    let settings = ctx.settings();
    (settings.submit_batch_max, settings.max_bulk_bytes.0)
}

/// A flusher's connection, kept from batch to batch.
#[derive(Default)]
struct Line {
    connection: Option<PoolConnection<Postgres>>,
    n_batches: usize,
}

impl Line {
    /// Closes the connection: nobody knows how far its statement came.
    fn give_up(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
        *self = Self::default();
    }

    async fn open(&mut self, ctx: &Context) -> sqlx::Result<&mut PgConnection> {
        Ok(match &mut self.connection {
            Some(connection) => connection,
            kept @ None => kept.insert(ctx.pg.acquire().await?),
        })
    }

    async fn insert(&mut self, ctx: &Context, jobs: &[&NewJob]) -> Vec<Result<Written>> {
        if self.n_batches >= BATCHES_PER_CONNECTION {
            *self = Self::default();
        }
        let connection = match self.open(ctx).await {
            Ok(connection) => connection,
            Err(error) => return write::all_refused(error, jobs.len()),
        };
        let verdicts = write::insert_each(write::Target::Connection(connection), jobs).await;
        self.n_batches += 1;
        if verdicts.iter().any(Result::is_err) {
            // It may have broken: the pool looks at what it is given back.
            *self = Self::default();
        }
        verdicts
    }
}

/// Writes a batch and tells those refused; gives back the others. A batch whose writing panics is halved until the job that it panics
/// over stands alone: its verdict is dropped, which tells its caller, and nobody else hears of it.
async fn write_batch(ctx: &Context, batch: Vec<Waiting>, line: &mut Line) -> Vec<Waiting> {
    let mut written = Vec::with_capacity(batch.len());
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let jobs = part.iter().map(|waiting| &waiting.job).collect::<Vec<_>>();
        if let Ok(verdicts) = AssertUnwindSafe(line.insert(ctx, &jobs)).catch_unwind().await {
            tell_refused(part, verdicts, &mut written);
            continue;
        }
        line.give_up();
        if let Some(mut rest) = unwritten(ctx, part, &mut written).await.filter(|rest| rest.len() > 1) {
            let half = rest.split_off(rest.len() / 2);
            parts.extend([half, rest]);
        }
    }
    written
}

fn tell_refused(part: Vec<Waiting>, verdicts: Vec<Result<Written>>, written: &mut Vec<Waiting>) {
    for (waiting, verdict) in part.into_iter().zip(verdicts) {
        match verdict {
            Ok(Written::New) => written.push(waiting),
            // The caller may be gone, which changes nothing.
            Ok(held @ Written::Held(_)) => drop(waiting.verdict.send(Ok((waiting.job, held)))),
            Err(error) => drop(waiting.verdict.send(Err(error))),
        }
    }
}

/// Those of a part that panicked which are not there: jobs of different sorts have statements of their own, and some may be written.
/// `None` when nobody knows.
async fn unwritten(ctx: &Context, part: Vec<Waiting>, written: &mut Vec<Waiting>) -> Option<Vec<Waiting>> {
    let ids = part.iter().map(|waiting| waiting.job.id).collect::<Vec<_>>();
    let rows = jobs_by_ids(&ctx.pg, &ids).await.inspect_err(|error| tracing::warn!(%error, "jobs of a batch that panicked are given up"));
    let there = rows.ok()?.into_iter().map(|row| row.id).collect::<HashSet<_>>();
    let (is_there, rest): (Vec<_>, Vec<_>) = part.into_iter().partition(|waiting| there.contains(&waiting.job.id));
    written.extend(is_there);
    Some(rest)
}

/// Brings written jobs before the workers, then answers their callers.
async fn announce(ctx: &Context, written: Vec<Waiting>) {
    let jobs = written.iter().map(|waiting| &waiting.job).collect::<Vec<_>>();
    race::enqueue(ctx, &jobs).await;
    for Waiting { job, verdict } in written {
        drop(verdict.send(Ok((job, Written::New))));
    }
}
