//! What a process that submits does while Redis is away: it announces nothing, so that no submit waits in vain, remembers
//! what it did not announce, and makes up for it as soon as Redis answers. The reconciler covers what is forgotten here.

use super::{QueueName, engine};
use crate::{Context, ids::JobId, vital::steadily};
use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How often Redis is asked whether it is back.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// Jobs remembered at most; more come with the reconciler's next pass.
const MISSED_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Outage {
    is_on: AtomicBool,
    missed: Mutex<Missed>,
}

#[derive(Debug, Default)]
struct Missed {
    by_queue: HashMap<QueueName, Vec<JobId>>,
    n_jobs: usize,
}

impl Outage {
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    fn remember(&self, queue: &QueueName, ids: impl Iterator<Item = JobId>) {
        let mut missed = self.missed.lock().expect("nothing panics while it holds this lock");
        let before = missed.n_jobs;
        let list = missed.by_queue.entry(queue.clone()).or_default();
        let n_listed = list.len();
        list.extend(ids.take(MISSED_MAX.saturating_sub(before)));
        let n_new = list.len() - n_listed;
        missed.n_jobs += n_new;
    }

    fn end(&self) -> Missed {
        self.is_on.store(false, Ordering::Release);
        std::mem::take(&mut *self.missed.lock().expect("nothing panics while it holds this lock"))
    }
}

/// Jobs of `queue` are committed and could not be announced.
pub(super) fn missed(ctx: &Context, queue: &QueueName, ids: impl Iterator<Item = JobId>) {
    let outage = &ctx.jobs.outage;
    outage.remember(queue, ids);
    if !outage.is_on.swap(true, Ordering::AcqRel) {
        // On the runtime of the process: the thread of this request may end before Redis is back.
        let ctx = ctx.for_process();
        ctx.jobs.runtime.clone().spawn(async move { steadily("making up for an outage", || make_up(&ctx)).await });
    }
}

/// Waits for Redis, then announces what was missed, as the rows stand by then.
async fn make_up(ctx: &Context) {
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        if ctx.redis.ping().await.is_ok() {
            break;
        }
    }
    let missed = ctx.jobs.outage.end();
    if missed.n_jobs > 0 {
        tracing::info!(n_jobs = missed.n_jobs, "Redis answers again; what was not announced is");
    }
    for (queue, ids) in missed.by_queue {
        if let Err(error) = engine::reconcile::announce(ctx, &queue, &ids).await {
            tracing::warn!(%error, %queue, n_jobs = ids.len(), "jobs are still not announced; the reconciler will");
        }
    }
}
