//! Leasing: what a remote worker asks for, at once or as soon as there is something.

use super::{
    LeaseToken,
    session::{self, Session},
    settle::{SettleItem, SettleLease},
};
use crate::{
    Caller, Context, Result,
    ids::WorkerId,
    jobs::{
        Job, QueueName,
        engine::{
            remote::{
                deliver::{self, Delivered},
                desk::Batch,
            },
            scripts::Holder,
        },
        queues,
        worker_orders::WorkerOrder,
    },
    json_fields,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    pin::{Pin, pin},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use utoipa::ToSchema;
use validator::Validate;

/// Longest a worker may wait for jobs.
pub const WAIT_MAX: Duration = Duration::from_secs(30);
/// Jobs that one request leases, at most.
pub const JOBS_MAX: i64 = 256;

/// What a worker wants, and what became of what it had.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"session_id": "01a1fb3f-0000-7000-8000-000000000002", "max": 10, "wait_ms": 20_000}))]
pub struct LeaseJobs {
    pub session_id: WorkerId,
    /// Jobs wanted; none are leased beyond it. A worker that is full asks for none.
    #[serde(deserialize_with = "json_fields::required_whole")]
    #[validate(range(min = 0, max = JOBS_MAX))]
    #[schema(minimum = 0, maximum = 256)]
    pub max: i64,
    /// How long to wait for the first one; at once when absent.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 0, max = 30_000))]
    #[schema(minimum = 0, maximum = 30_000)]
    pub wait_ms: Option<i64>,
    /// What became of earlier jobs: done first, and answered in `settled`.
    #[validate(length(max = 256))]
    #[schema(value_type = Option<Vec<SettleLease>>, max_items = 256)]
    pub settle: Option<Vec<Box<RawValue>>>,
}

/// One job to run.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeasedJob {
    pub job: Job,
    /// Which delivery of the job this is.
    #[schema(example = 1)]
    pub attempt: i32,
    /// Shown with whatever is said about the job; opaque.
    #[schema(example = "01a1fb40-f998-71ea-83d1-3bd51ccbb3da.1.7d9d1f0f6ad64f4e9f7d3c5c2b1a0908.thumbnails")]
    pub lease_token: String,
    /// The lease is lost then, unless a heartbeat extends it; none does beyond the job's `timeout_ms`.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

#[derive(Debug, Default, Serialize, ToSchema)]
pub struct LeasedJobs {
    pub jobs: Vec<LeasedJob>,
    /// The answers to `settle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub settled: Option<Vec<SettleItem>>,
}

/// Up to `max` jobs, or none when the wait ends or the caller has `left`. `may_have` is asked before jobs are handed to a caller that has waited.
pub async fn lease(
    ctx: &Context,
    caller: &Caller,
    request: &LeaseJobs,
    may_have: impl AsyncFn() -> Result<bool>,
    left: impl Future<Output = ()>,
) -> Result<Vec<LeasedJob>> {
    let (session, order) = session::touch(ctx, caller, request.session_id).await?;
    let wait = Duration::from_millis(request.wait_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0));
    let (max, deadline) = (usize::try_from(request.max).unwrap_or(0), Instant::now() + wait.min(WAIT_MAX));
    if max == 0 {
        return Ok(Vec::new());
    }
    let queues = allowed(ctx, &session).await?;
    let place = ctx.jobs.waiters.place(caller.user_id);
    let at_once = Instant::now() + AT_ONCE;
    // Where as many wait already as may: what there is now, or nothing.
    let deadline = if place.is_some() { deadline.max(at_once) } else { at_once };
    if order != WorkerOrder::Resume || queues.is_empty() {
        // The next heartbeat says why; asking again at once helps nobody.
        tokio::select! {
            () = tokio::time::sleep_until(deadline.into()) => {}
            () = ctx.jobs.waiters.over() => {}
            () = left => {}
        }
        return Ok(Vec::new());
    }
    let begun = Instant::now();
    let may_have = async |queue: &QueueName| {
        let is_known = begun.elapsed() < KNOWN_FOR;
        Ok(may_have().await? && (is_known || still_takes(ctx, caller, &session, queue).await?))
    };
    take(ctx, &session, (queues, max), deadline, &may_have, pin!(left)).await
}

/// What was looked at so lately is not looked at again.
const KNOWN_FOR: Duration = Duration::from_millis(250);

/// Whether what was true before the wait still is: the operator wants the worker to have jobs, and the queue allows it.
async fn still_takes(ctx: &Context, caller: &Caller, session: &Session, queue: &QueueName) -> Result<bool> {
    let (_, order) = session::touch(ctx, caller, session.id).await?;
    Ok(order == WorkerOrder::Resume && queues::is_remote(ctx, queue).await?)
}

/// A lease that nobody waits for takes a round trip to Redis all the same.
const AT_ONCE: Duration = Duration::from_millis(200);

async fn take(
    ctx: &Context,
    session: &Session,
    wish: (Vec<QueueName>, usize),
    deadline: Instant,
    may_have: &impl AsyncFn(&QueueName) -> Result<bool>,
    mut left: Pin<&mut impl Future<Output = ()>>,
) -> Result<Vec<LeasedJob>> {
    let (holder, process) = (session.holder(ctx), ctx.for_process());
    loop {
        // What is leased in the moment of giving up goes back.
        let batch = tokio::select! {
            batch = ctx.jobs.desk.wait(&process, &ctx.jobs.runtime, &holder, wish.clone(), deadline) => batch,
            () = ctx.jobs.waiters.over() => None,
            () = &mut left => None,
        };
        let Some(batch) = batch else { return Ok(Vec::new()) };
        if !may_have(&batch.keys.queue).await? {
            return Ok(Vec::new());
        }
        let jobs = hand_over(ctx, session, &holder, batch).await?;
        if !jobs.is_empty() {
            return Ok(jobs);
        }
    }
}

async fn hand_over(ctx: &Context, session: &Session, holder: &Holder, batch: Batch) -> Result<Vec<LeasedJob>> {
    let (queue, now) = (batch.keys.queue.clone(), ctx.clock.now());
    let bytes_max = ctx.settings().max_bulk_bytes.0;
    let delivered = deliver::deliver(ctx, batch, &session.kinds, bytes_max).await?;
    let jobs = delivered.into_iter().map(|Delivered { token, job, limit }| LeasedJob {
        attempt: token.attempt,
        lease_token: LeaseToken { token, queue: queue.clone() }.to_string(),
        expires_at: now + limit.map_or(holder.lease, |limit| limit.min(holder.lease)),
        job,
    });
    Ok(jobs.collect())
}

/// Those of the session's queues that allow remote workers still.
async fn allowed(ctx: &Context, session: &Session) -> Result<Vec<QueueName>> {
    let mut allowed = Vec::with_capacity(session.queues.len());
    for queue in &session.queues {
        if queues::is_remote(ctx, queue).await? {
            allowed.push(queue.clone());
        }
    }
    Ok(allowed)
}
