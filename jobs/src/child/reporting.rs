//! What a child says of itself once a second: to Redis, for those who look at workers, and as gauges.

use super::Assignment;
use shared::{
    Context, Result,
    ids::WorkerId,
    jobs::{
        engine::{held::Held, leaser::Mode},
        workers::{self, ActiveJob, ChildReport, ReservedJob, WorkerInstance, WorkerKind, WorkerState},
    },
    telemetry::{
        metrics::{JOB_RESERVED, JOB_RUNNING},
        process,
    },
};
use std::{process as this_process, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::task::AbortOnDropHandle;

const EVERY: Duration = Duration::from_secs(1);
/// Jobs listed in a report, at most of each sort.
const LISTED_MAX: usize = 1_000;

/// Reports until the handle is dropped.
pub(super) fn spawn(ctx: &Context, assignment: &Assignment, held: &Arc<Held>, mode: watch::Receiver<Mode>) -> AbortOnDropHandle<()> {
    let (ctx, assignment, held) = (ctx.clone(), assignment.clone(), Arc::clone(held));
    AbortOnDropHandle::new(tokio::spawn(async move {
        let started_at = ctx.clock.now();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_heard = true;
        loop {
            ticks.tick().await;
            let mode = *mode.borrow();
            match report(&ctx, &assignment, &held, mode, started_at).await {
                Ok(()) => was_heard = true,
                Err(error) if was_heard => {
                    tracing::warn!(%error, "this worker cannot report itself");
                    was_heard = false;
                }
                Err(_) => {}
            }
        }
    }))
}

async fn report(ctx: &Context, assignment: &Assignment, held: &Held, mode: Mode, started_at: OffsetDateTime) -> Result<()> {
    let (mut active, mut reserved) = (Vec::new(), Vec::new());
    for job in held.view() {
        match job.since {
            Some(since) => active.push(ActiveJob {
                job_id: job.job_id,
                kind: job.kind.to_string(),
                attempt: job.attempt,
                since,
                progress: job.progress,
            }),
            None => reserved.push(ReservedJob { job_id: job.job_id }),
        }
    }
    metrics::gauge!(JOB_RUNNING).set(active.len() as f64);
    metrics::gauge!(JOB_RESERVED).set(reserved.len() as f64);
    active.truncate(LISTED_MAX);
    reserved.truncate(LISTED_MAX);
    let (tasks_done, tasks_failed) = held.counts();
    let child = ChildReport {
        pid: this_process::id(),
        started_at,
        heartbeat_at: ctx.clock.now(),
        tasks_done,
        tasks_failed,
        rss_kb: process::rss_kb().unwrap_or(0),
        active,
        reserved,
    };
    workers::report(ctx, &instance(ctx, assignment, mode, started_at), &child).await
}

fn instance(ctx: &Context, assignment: &Assignment, mode: Mode, started_at: OffsetDateTime) -> WorkerInstance {
    let settings = ctx.settings();
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    WorkerInstance {
        id: assignment.worker_id,
        kind: WorkerKind::Process,
        name: format!("{host}-{}", assignment.supervisor_pid),
        host,
        pid: assignment.supervisor_pid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        queues: settings.worker_queues.clone(),
        concurrency: settings.worker_concurrency,
        prefetch: settings.worker_concurrency * settings.worker_prefetch_multiplier,
        state: match mode {
            Mode::Lease => WorkerState::Running,
            Mode::Quiet => WorkerState::Quiet,
            Mode::Drain | Mode::Flush => WorkerState::Draining,
        },
        started_at: started_of(assignment.worker_id).unwrap_or(started_at),
    }
}

/// When the instance started: its id is a UUIDv7, made by the supervisor.
fn started_of(worker_id: WorkerId) -> Option<OffsetDateTime> {
    let (seconds, nanos) = worker_id.0.get_timestamp()?.to_unix();
    let started_at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    Some(started_at + Duration::from_nanos(nanos.into()))
}

/// Takes this child off its worker's report, best effort.
pub(super) async fn retire(ctx: &Context, assignment: &Assignment) {
    let retired = tokio::time::timeout(EVERY, workers::forget_child(ctx, assignment.worker_id, this_process::id())).await;
    if let Ok(Err(error)) = retired {
        tracing::debug!(%error, "the child's report stays until it expires");
    }
}
