//! What the operations ask of Redis, each with what happens when Redis is away: reads do without, announcing is left to
//! the reconciler.

use super::{
    JobKind, NewJob, QueueName, RetryPolicy,
    engine::{
        self, Depths, Enqueue, Lease, Limits, Paused, Standing,
        rates::{self, Rates},
    },
    events,
    list::Leases,
    outage,
    queues::Durability,
    store::{self, change::Requeued, read::JobRow},
};
use crate::{Context, Error, Result, clock::unix_ms, ids::JobId, telemetry::metrics};
use futures_util::{StreamExt, future::try_join_all, stream};
use std::{collections::HashMap, time::Duration};
use time::OffsetDateTime;
use uuid::Uuid;

/// Leases looked at most to list what runs.
const RUNNING_MAX: usize = 100_000;
/// Queues that Redis is asked about at the same time.
const QUEUES_AT_ONCE: usize = 32;
/// Replaced jobs that are cancelled at the same time: a bulk may replace a thousand.
const CANCELS_AT_ONCE: usize = 16;

/// Brings committed jobs before the workers, one call per queue.
pub(super) async fn enqueue(ctx: &Context, jobs: &[&NewJob]) {
    let mut by_queue: HashMap<&QueueName, Vec<Enqueue>> = HashMap::new();
    // Volatile ones were taken by Redis, or refused.
    for job in jobs.iter().filter(|job| job.durability == Durability::Postgres) {
        let copies = by_queue.entry(&job.queue).or_default();
        if job.is_waiting() {
            note_submitted(&job.queue, 1);
        } else {
            copies.push(Enqueue::from(*job));
        }
    }
    for (queue, copies) in by_queue {
        if copies.is_empty() {
            continue;
        }
        note_submitted(queue, copies.len());
        let ids = copies.iter().map(|copy| copy.id);
        if ctx.jobs.outage.is_on() {
            outage::missed(ctx, queue, ids);
        } else if let Err(error) = engine::enqueue(ctx, queue, &copies).await {
            tracing::warn!(%error, %queue, n_jobs = copies.len(), "jobs are written but not announced until Redis answers");
            outage::missed(ctx, queue, ids);
        }
    }
}

fn note_submitted(queue: &QueueName, n_jobs: usize) {
    ::metrics::counter!(metrics::JOB_SUBMITTED, "queue" => queue.to_string()).increment(n_jobs as u64);
    ::metrics::counter!(metrics::APP_MESSAGES).increment(n_jobs as u64);
}

/// Cancels jobs whose key others took. What does not succeed here is left to the reconciler, which reads the wish in the row.
pub(super) async fn cancel_replaced(ctx: &Context, jobs: &[&NewJob]) {
    let replaced = jobs.iter().filter_map(|job| job.unique.as_ref()?.replaces.clone()).collect::<Vec<_>>();
    let cancels = replaced.into_iter().map(|(queue, id)| async move {
        if let Err(error) = engine::end_waiting(ctx, &queue, id).await {
            tracing::warn!(%error, %queue, job_id = %id, "a replaced job is not cancelled yet; the reconciler will");
        }
    });
    stream::iter(cancels).buffer_unordered(CANCELS_AT_ONCE).collect::<()>().await;
}

/// Brings jobs of one queue that came back to life before the workers.
pub(super) async fn enqueue_requeued(ctx: &Context, queue: &QueueName, jobs: Vec<Requeued>) {
    let copies = jobs.into_iter().filter_map(copy_of).collect::<Vec<_>>();
    // Before a worker can start one.
    events::announce_requeued(ctx, queue, &copies.iter().map(|copy| (copy.id, copy.standing.attempt)).collect::<Vec<_>>()).await;
    if let Err(error) = engine::enqueue(ctx, queue, &copies).await {
        tracing::warn!(%error, %queue, n_jobs = copies.len(), "requeued jobs are not announced; the reconciler will");
    }
}

/// `None` for a kind that is no name any more.
fn copy_of(job: Requeued) -> Option<Enqueue> {
    Some(Enqueue {
        id: job.id,
        owner_id: job.owner_id,
        kind: JobKind::new(&job.kind).ok()?,
        standing: Standing { priority: job.priority, attempt: job.attempt, failures: 0, snoozes: 0, returns: 0, crashes: 0 },
        run_at: job.run_at,
        expires_at: job.expires_at,
        timeout_ms: job.timeout_ms,
        retry: RetryPolicy { max_attempts: job.max_attempts, base_ms: job.retry_base_ms, max_ms: job.retry_max_ms },
        payload: job.payload.map(|payload| payload.0),
        request_id: job.request_id,
        traceparent: job.traceparent,
        verify: false,
        volatile: None,
        concurrency_key: job.concurrency_key,
    })
}

/// The lease of one pending row.
pub(super) async fn lease(ctx: &Context, row: &JobRow) -> Option<Lease> {
    leases(ctx, std::slice::from_ref(row)).await.remove(&row.id)
}

/// The leases of those of `rows` that are pending and have one, a call per queue.
pub(super) async fn leases(ctx: &Context, rows: &[JobRow]) -> Leases {
    let mut by_queue: HashMap<&str, Vec<JobId>> = HashMap::new();
    for row in rows.iter().filter(|row| row.is_pending()) {
        by_queue.entry(&row.queue).or_default().push(row.id);
    }
    let (mut found, by_queue) = (Leases::new(), Vec::from_iter(by_queue));
    for some in by_queue.chunks(QUEUES_AT_ONCE) {
        match try_join_all(some.iter().map(|(queue, ids)| leases_of(ctx, queue, ids))).await {
            Ok(leases) => found.extend(leases.into_iter().flatten()),
            Err(error) => {
                tracing::debug!(%error, "jobs are shown without their leases");
                break;
            }
        }
    }
    found
}

async fn leases_of(ctx: &Context, queue: &str, ids: &[JobId]) -> Result<Leases> {
    engine::leases(ctx, &QueueName::new(queue)?, ids).await
}

/// The jobs that run, of one queue or of all.
pub(super) async fn running_ids(ctx: &Context, queue: Option<&str>) -> Result<Vec<Uuid>> {
    let queues = match queue {
        Some(queue) => vec![queue.to_owned()],
        None => store::queues::queue_names(&ctx.pg).await?,
    };
    let mut running = Vec::new();
    for some in queues.chunks(QUEUES_AT_ONCE) {
        running.extend(try_join_all(some.iter().map(|queue| running_of(ctx, queue))).await?.into_iter().flatten());
        if running.len() >= RUNNING_MAX {
            break;
        }
    }
    Ok(running)
}

async fn running_of(ctx: &Context, queue: &str) -> Result<Vec<Uuid>> {
    let queue = QueueName::new(queue)?;
    let (mut running, mut cursor) = (Vec::new(), 0);
    loop {
        let (leases, next) = engine::running(ctx, &queue, cursor).await?;
        running.extend(leases.into_iter().filter(|(_, lease)| lease.started).map(|(id, _)| id.0));
        cursor = next;
        if cursor == 0 || running.len() >= RUNNING_MAX {
            return Ok(running);
        }
    }
}

/// How many jobs a queue holds: by Redis, and by PostgreSQL (which counts up to `count_max`) when that is away.
pub(super) async fn depth(ctx: &Context, queue: &QueueName, count_max: usize) -> Result<usize> {
    if let Ok(depths) = engine::depths(ctx, queue).await {
        return Ok(usize::try_from(depths.queued + depths.scheduled + depths.running).unwrap_or(usize::MAX));
    }
    let limit = i64::try_from(count_max).unwrap_or(i64::MAX);
    let live = store::queues::live_counts(&ctx.pg, queue.as_str(), ctx.clock.now(), limit).await?;
    Ok(usize::try_from(live.due + live.scheduled + live.retrying).unwrap_or(usize::MAX))
}

/// What Redis holds of a queue; `None` while it is away.
pub(super) async fn depths(ctx: &Context, queue: &QueueName) -> Option<Depths> {
    engine::depths(ctx, queue).await.ok()
}

/// How fast a queue goes; nothing of it is known while Redis is away.
pub(super) async fn rates(ctx: &Context, queue: &QueueName) -> Rates {
    rates::rates(ctx, queue).await.unwrap_or_default()
}

/// When the job that waits longest was due, judged by the heads of the ready lists.
pub(super) async fn oldest_ready(ctx: &Context, queue: &QueueName) -> Option<OffsetDateTime> {
    let mut pipe = redis::pipe();
    for priority in 0..10 {
        // The first may be a leftover of a job that is gone.
        pipe.lrange(ctx.keys.queue(queue.as_str(), &format!("ready:{priority}")), 0, 4);
    }
    pipe.lrange(ctx.keys.queue(queue.as_str(), "quarantine"), 0, 4);
    let heads: Vec<Vec<String>> = pipe.query_async(&mut ctx.redis.connection()).await.ok()?;
    let ids = heads.iter().flatten().filter_map(|id| id.parse().ok()).collect::<Vec<Uuid>>();
    if ids.is_empty() {
        return None;
    }
    store::queues::oldest_run_at(&ctx.pg, &ids).await.ok()?
}

/// Since when the watchdog takes the queue for stalled; `None` while Redis is away.
pub(super) async fn stalled_since(ctx: &Context, queue: &QueueName) -> Option<OffsetDateTime> {
    engine::watchdog::stalled_since(ctx, queue).await.ok().flatten()
}

/// Makes a pause felt at once; workers read the row anew when they find Redis empty.
pub(super) async fn set_paused(ctx: &Context, queue: &QueueName, paused: Paused) {
    if let Err(error) = engine::set_paused(ctx, queue, paused).await {
        tracing::warn!(%error, %queue, ?paused, "the pause is written but not announced; the reconciler will");
    }
}

/// Makes changed limits felt at once.
pub(super) async fn set_limits(ctx: &Context, queue: &QueueName, limits: &Limits) {
    if let Err(error) = engine::set_limits(ctx, queue, limits).await {
        tracing::warn!(%error, %queue, "limits are written but not announced; the leader will");
    }
}

/// Takes what a deleted queue left in Redis away. What is taken away although it lives is copied again from its row.
pub(super) async fn forget_queue(ctx: &Context, queue: &QueueName) {
    if let Err(error) = engine::forget_queue(ctx, queue).await {
        tracing::warn!(%error, %queue, "a deleted queue's leftovers stay in Redis");
    }
}

/// Whether it is this process that tells a queue's stats now; no other will for as long as `turn`.
pub(super) async fn takes_turn(ctx: &Context, queue: &QueueName, turn: Duration) -> Result<bool> {
    let mut cmd = redis::cmd("SET");
    cmd.arg(ctx.keys.queue_stats_turn(queue.as_str())).arg(1).arg("NX").arg("PX").arg(u64::try_from(turn.as_millis()).unwrap_or(0));
    let taken: Option<String> = cmd.query_async(&mut ctx.redis.connection()).await?;
    Ok(taken.is_some())
}

/// Asks the settle script to announce the end of a job. Without it the waiter finds out by polling.
pub(super) async fn watch(ctx: &Context, queue: &QueueName, id: JobId, patience: Duration) {
    let key = ctx.keys.queue(queue.as_str(), "watched");
    let now_ms = unix_ms(ctx.clock.now());
    let patience_ms = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    let mut pipe = redis::pipe();
    pipe.zrembyscore(&key, "-inf", now_ms).ignore();
    pipe.zadd(&key, id.to_string(), now_ms + patience_ms).ignore();
    if let Err(error) = pipe.exec_async(&mut ctx.redis.connection()).await {
        tracing::debug!(error = %Error::from(error), "the end of a job will not be announced");
    }
}
