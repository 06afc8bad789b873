//! What a child says of itself once a second: to Redis, for those who look at workers, and as gauges.

use super::{Assignment, spawn};
use crate::link::Wish;
use shared::{
    Context, Result,
    ids::WorkerId,
    jobs::{
        engine::held::Held,
        workers::{self, ActiveJob, ChildReport, ReservedJob},
    },
    telemetry::{
        metrics::{JOB_RESERVED, JOB_RUNNING},
        process,
    },
    vital::steadily,
};
use std::{
    process as this_process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::task::AbortOnDropHandle;

const EVERY: Duration = Duration::from_secs(1);
const FIRST: Duration = Duration::from_millis(200);
/// Jobs listed in a report, at most of each sort.
const LISTED_MAX: usize = 1_000;

/// Reports until it is dropped.
pub(super) struct Reporter {
    ctx: Context,
    worker_id: WorkerId,
    has_reported: Arc<AtomicBool>,
    task: AbortOnDropHandle<()>,
}

impl Reporter {
    pub(super) fn spawn(ctx: &Context, assignment: &Assignment, held: &Arc<Held>, wish: watch::Receiver<Wish>) -> Self {
        let (worker_id, has_reported) = (assignment.worker_id, Arc::<AtomicBool>::default());
        let (of, held, told) = (ctx.clone(), Arc::clone(held), Arc::clone(&has_reported));
        let task = spawn(async move { steadily("reports", || keep_reporting(&of, worker_id, &held, wish.clone(), &told)).await });
        Self { ctx: ctx.clone(), worker_id, has_reported, task }
    }

    /// Takes this child off its worker's report, best effort.
    pub(super) async fn retire(self) {
        self.task.abort();
        if !self.has_reported.load(Ordering::Relaxed) {
            return;
        }
        let retired = tokio::time::timeout(EVERY, workers::forget_child(&self.ctx, self.worker_id, this_process::id())).await;
        if let Ok(Err(error)) = retired {
            tracing::debug!(%error, "the child's report stays until it expires");
        }
    }
}

async fn keep_reporting(ctx: &Context, id: WorkerId, held: &Held, mut wish: watch::Receiver<Wish>, has_reported: &AtomicBool) {
    let started_at = ctx.clock.now();
    // A child that waits for its turn is nobody's to see, and one that is done within moments would only cost.
    drop(wish.wait_for(|wish| wish.slots > 0).await);
    let mut ticks = interval_at(Instant::now() + FIRST, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_heard = true;
    loop {
        ticks.tick().await;
        has_reported.store(true, Ordering::Relaxed);
        match report(ctx, id, held, started_at).await {
            Ok(()) => was_heard = true,
            Err(error) if was_heard => {
                tracing::warn!(%error, "this worker cannot report itself");
                was_heard = false;
            }
            Err(_) => {}
        }
    }
}

async fn report(ctx: &Context, id: WorkerId, held: &Held, started_at: OffsetDateTime) -> Result<()> {
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
    workers::report_child(ctx, id, &child).await
}
