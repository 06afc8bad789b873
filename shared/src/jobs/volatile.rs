//! Jobs of `durability: "redis"` queues, from the submit to their end: accepted by Redis, and found there by their ids.

use super::{
    Job, NewJob, QueueName,
    engine::{
        self, Enqueue,
        volatile::{Live, Record},
    },
    queues::Durability,
    store::{self, read::JobRow},
    view,
    write::{self, Target, Written},
};
use crate::{Context, Error, Result, ids::JobId, telemetry::metrics};
use sqlx::types::Json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most queues of this kind: a job that has no row is looked for in each.
pub(super) const QUEUES_MAX: usize = 100;
/// How old the list of them may get.
const FRESH: Duration = Duration::from_secs(1);

/// Hands a prepared job to Redis. `Ok` means that Redis has it; an error that it has not, or that its answer got lost.
pub(super) async fn submit(ctx: &Context, job: NewJob) -> Result<Job> {
    accept(ctx, &job.queue, &[Enqueue::from(&job)]).await?;
    Ok(view::into_job(job))
}

/// Writes `jobs` where each belongs; answers for each in order. Volatile ones are no part of the target's transaction.
pub(super) async fn write_each(ctx: &Context, target: Target<'_>, jobs: &[&NewJob]) -> Vec<Result<Written>> {
    if jobs.iter().all(|job| job.durability == Durability::Postgres) {
        return write::insert_each(target, jobs).await;
    }
    let (volatile, durable): (Vec<_>, Vec<_>) = jobs.iter().copied().partition(|job| job.durability == Durability::Redis);
    let mut written = write::insert_each(target, &durable).await.into_iter();
    let mut by_queue: HashMap<&QueueName, Vec<Enqueue>> = HashMap::new();
    for job in volatile {
        by_queue.entry(&job.queue).or_default().push(Enqueue::from(job));
    }
    let mut refused: HashMap<&QueueName, Error> = HashMap::new();
    for (queue, copies) in by_queue {
        if let Err(error) = accept(ctx, queue, &copies).await {
            refused.insert(queue, error);
        }
    }
    let verdict_of = |job: &&NewJob| match job.durability {
        Durability::Postgres => written.next().expect("there is a verdict for each job"),
        Durability::Redis => refused.get(&job.queue).map_or(Ok(Written::New), |error| Err(again(error))),
    };
    jobs.iter().map(verdict_of).collect()
}

/// The same words for another job.
fn again(error: &Error) -> Error {
    Error { retry_after: error.retry_after, ..Error::new(error.code, error.detail.clone()) }
}

async fn accept(ctx: &Context, queue: &QueueName, copies: &[Enqueue]) -> Result<()> {
    engine::enqueue(ctx, queue, copies).await?;
    ::metrics::counter!(metrics::JOB_SUBMITTED, "queue" => queue.to_string()).increment(copies.len() as u64);
    ::metrics::counter!(metrics::APP_MESSAGES).increment(copies.len() as u64);
    Ok(())
}

/// What a look for a job without a row found.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Look {
    /// The row that it will have.
    Found(JobRow),
    Absent,
    /// No queue keeps its jobs in Redis alone, so that there was nowhere to look.
    NoSuchQueue,
}

/// Looks for a job in Redis; an error when Redis is away, since nobody knows then whether there is such a job.
pub(super) async fn find(ctx: &Context, id: JobId) -> Result<Look> {
    let queues = queues(ctx).await?;
    if queues.is_empty() {
        return Ok(Look::NoSuchQueue);
    }
    let Some(live) = engine::volatile::find(ctx, &queues, id).await? else { return Ok(Look::Absent) };
    let mut row = row_of(id, live);
    if row.attempt > 0 {
        let last = store::read::attempts_page(&ctx.pg, id, None, 1).await?.pop();
        (row.error_code, row.error_message) = last.map_or((None, None), |attempt| (attempt.error_code, attempt.error_message));
    }
    Ok(Look::Found(row))
}

pub(super) fn row_of(id: JobId, Live { record, standing, run_at }: Live) -> JobRow {
    let Record { owner_id, kind, queue, payload, expires_at, retry, tags, request_id, created_at, .. } = record;
    JobRow {
        id,
        owner_id,
        kind: kind.to_string(),
        queue: queue.to_string(),
        state: "pending".to_owned(),
        priority: standing.priority,
        payload: Json(payload),
        run_at,
        expires_at,
        max_attempts: retry.max_attempts,
        attempt: standing.attempt,
        failures: standing.failures,
        error_code: None,
        error_message: None,
        unique_key: None,
        tags,
        request_id,
        created_at,
        result: None,
        worker_id: None,
        started_at: None,
        finished_at: None,
    }
}

/// The queues of this kind, as this process read them a second ago or less.
#[derive(Debug, Default)]
pub(super) struct VolatileQueues(Mutex<Option<(Arc<[QueueName]>, Instant)>>);

impl VolatileQueues {
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn fresh(&self) -> Option<Arc<[QueueName]>> {
        self.lock().as_ref().filter(|(_, read_at)| read_at.elapsed() < FRESH).map(|(queues, _)| Arc::clone(queues))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Arc<[QueueName]>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn queues(ctx: &Context) -> Result<Arc<[QueueName]>> {
    let kept = &ctx.jobs.volatile_queues;
    if let Some(queues) = kept.fresh() {
        return Ok(queues);
    }
    let names = store::queues::volatile_queues(&ctx.pg).await?;
    let queues: Arc<[QueueName]> = names.iter().map(|name| QueueName::new(name)).collect::<Result<_>>()?;
    *kept.lock() = Some((Arc::clone(&queues), Instant::now()));
    Ok(queues)
}
