//! A remote worker among the workers that operators see: what it told, when it was heard of, and what it is told in turn.

use super::session::SESSION_TTL;
use crate::{
    Context, Error, Result, clock,
    ids::WorkerId,
    jobs::{
        worker_orders::WorkerOrder,
        workers::{self, ActiveJob, ChildReport, WorkerInstance},
    },
};

/// Deliveries that succeeded and that failed, counted in the worker's hash.
const COUNTS: [&str; 2] = ["n_done", "n_failed"];

/// Notes that the worker was heard of, which keeps its session, and returns what it has been told last; to go on, if nothing.
pub(super) async fn heard(ctx: &Context, id: WorkerId) -> Result<WorkerOrder> {
    let (id, now_ms) = (id.to_string(), clock::unix_ms(ctx.clock.now()));
    let (worker, orders) = (ctx.keys.worker(&id), ctx.keys.worker_orders(&id));
    let mut pipe = redis::pipe();
    pipe.pexpire(ctx.keys.worker_session(&id), ttl_ms()).ignore();
    pipe.hset(&worker, workers::HEARD_FIELD, now_ms).ignore();
    pipe.pexpire(&worker, ttl_ms()).ignore();
    pipe.zadd(ctx.keys.workers(), id, now_ms).ignore();
    // It may ask again and again, and hears the same each time: orders last as long as the worker does.
    pipe.pexpire(&orders, ttl_ms()).ignore();
    pipe.lrange(&orders, -1, -1);
    let (last,): (Vec<String>,) = pipe.query_async(&mut ctx.redis.connection()).await?;
    Ok(last.first().and_then(|text| WorkerOrder::parse(text)).unwrap_or(WorkerOrder::Resume))
}

/// Writes what the worker says of itself.
pub(super) async fn report(ctx: &Context, instance: &WorkerInstance, active: Vec<ActiveJob>, rss_kb: u64) -> Result<()> {
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(ctx.keys.worker(&instance.id.to_string())).arg(&COUNTS);
    let (n_done, n_failed): (Option<u64>, Option<u64>) = cmd.query_async(&mut ctx.redis.connection()).await?;
    let report = ChildReport {
        pid: instance.pid,
        started_at: instance.started_at,
        heartbeat_at: ctx.clock.now(),
        tasks_done: n_done.unwrap_or(0),
        tasks_failed: n_failed.unwrap_or(0),
        rss_kb,
        active,
        reserved: Vec::new(),
    };
    workers::report_remote(ctx, instance, &report).await
}

/// Adds to how many deliveries the worker has settled; what Redis does not take is forgotten.
pub(super) async fn count(ctx: &Context, id: WorkerId, [n_done, n_failed]: [u64; 2]) {
    let key = ctx.keys.worker(&id.to_string());
    let mut pipe = redis::pipe();
    for (field, n) in COUNTS.iter().zip([n_done, n_failed]).filter(|(_, n)| *n > 0) {
        pipe.hincr(&key, *field, n).ignore();
    }
    pipe.pexpire(&key, ttl_ms()).ignore();
    if let Err(error) = pipe.exec_async(&mut ctx.redis.connection()).await {
        tracing::debug!(error = %Error::from(error), "what a remote worker did is not counted");
    }
}

pub(super) fn ttl_ms() -> i64 {
    i64::try_from(SESSION_TTL.as_millis()).expect("ten minutes are few milliseconds")
}
