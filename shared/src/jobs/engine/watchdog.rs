//! The watchdog: a queue with ready jobs, not paused, consumed by a worker that has room, and nothing leased from it for too
//! long. None of the parts is wrong by itself; together they mean that something no longer moves.

use super::{
    IDS_MAX,
    scripts::QueueKeys,
    store::{self, QueueRow},
};
use crate::{
    Context, Result,
    clock::{from_unix_ms, unix_ms},
    jobs::{
        QueueName,
        workers::{self, Worker, WorkerState},
    },
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use time::OffsetDateTime;

/// Field of `cfg` that tells since when, in milliseconds; absent while all is well.
pub(super) const STALLED_SINCE: &str = "stalled_since";

/// A queue at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    n_ready: u64,
    /// How many leases there ever were; any change means that it moves.
    n_leased: u64,
}

/// How one queue has stood since it last moved.
#[derive(Debug)]
struct Standstill {
    n_leased: u64,
    since: Instant,
    is_alarmed: bool,
}

/// What the looks so far have seen.
#[derive(Debug, Default)]
pub struct Watch(HashMap<QueueName, Standstill>);

impl Watch {
    /// Takes a look in; returns for how long the queue has had ready jobs and given none out.
    fn see(&mut self, queue: &QueueName, look: Look, now: Instant) -> Duration {
        let Some(still) = self.0.get_mut(queue) else {
            self.0.insert(queue.clone(), Standstill { n_leased: look.n_leased, since: now, is_alarmed: false });
            return Duration::ZERO;
        };
        if look.n_ready == 0 || look.n_leased != still.n_leased {
            (still.n_leased, still.since) = (look.n_leased, now);
        }
        now.duration_since(still.since)
    }

    /// Nothing was seen for a while: what stood before says nothing.
    pub fn forget(&mut self) {
        self.0.retain(|_, still| still.is_alarmed);
        for still in self.0.values_mut() {
            still.since = Instant::now();
        }
    }
}

/// Looks at every queue once, and tells what stands still for longer than `patience` and what moves again.
pub async fn look(ctx: &Context, watch: &mut Watch, patience: Duration) -> Result<()> {
    let rows = store::queues(&ctx.pg).await?.into_iter().filter(|row| !row.is_paused && !row.is_remote && !row.limits.may_hold_back());
    let rows: Vec<QueueRow> = rows.collect();
    watch.0.retain(|name, still| still.is_alarmed || rows.iter().any(|row| row.name == *name));
    let now = Instant::now();
    let mut suspicious = Vec::new();
    for rows in rows.chunks(IDS_MAX / 10) {
        for (row, look) in rows.iter().zip(looks(ctx, rows).await?) {
            if watch.see(&row.name, look, now) >= patience {
                suspicious.push((row.name.clone(), look));
            }
        }
    }
    let workers = if suspicious.is_empty() { Vec::new() } else { workers::alive(ctx).await? };
    suspicious.retain(|(queue, _)| workers.iter().any(|worker| should_lease(worker, queue)));
    for (queue, look) in &suspicious {
        raise(ctx, watch, queue, *look).await?;
    }
    let is_stalled = |queue: &QueueName| suspicious.iter().any(|(name, _)| name == queue);
    let moving: Vec<QueueName> =
        watch.0.iter().filter(|(name, still)| still.is_alarmed && !is_stalled(name)).map(|(name, _)| name.clone()).collect();
    for queue in moving {
        clear(ctx, watch, &queue).await?;
    }
    Ok(())
}

async fn looks(ctx: &Context, rows: &[QueueRow]) -> Result<Vec<Look>> {
    let mut pipe = redis::pipe();
    for row in rows {
        let keys = QueueKeys::new(&ctx.keys, &row.name);
        for list in keys.ready() {
            pipe.llen(list);
        }
        pipe.hget(keys.cfg(), "n_leased");
    }
    let figures: Vec<Option<u64>> = pipe.query_async(&mut ctx.redis.connection()).await?;
    let look = |figures: &[Option<u64>]| {
        let (n_leased, lengths) = figures.split_last().expect("a chunk has eleven figures");
        Look { n_ready: lengths.iter().flatten().sum(), n_leased: n_leased.unwrap_or(0) }
    };
    Ok(figures.chunks_exact(11).map(look).collect())
}

/// Whether this worker consumes the queue and has room, so that nothing should wait for it.
fn should_lease(worker: &Worker, queue: &QueueName) -> bool {
    let consumes = worker.queues.is_empty() || worker.queues.iter().any(|name| name == queue.as_str());
    let has_room = worker.counts.active + worker.counts.reserved < worker.prefetch;
    worker.state == WorkerState::Running && consumes && has_room
}

async fn raise(ctx: &Context, watch: &mut Watch, queue: &QueueName, look: Look) -> Result<()> {
    let Some(still) = watch.0.get_mut(queue).filter(|still| !still.is_alarmed) else { return Ok(()) };
    let since = ctx.clock.now() - still.since.elapsed();
    let mut cmd = redis::cmd("HSET");
    cmd.arg(QueueKeys::new(&ctx.keys, queue).cfg()).arg(STALLED_SINCE).arg(unix_ms(since));
    cmd.exec_async(&mut ctx.redis.connection()).await?;
    still.is_alarmed = true;
    tracing::error!(%queue, n_ready = look.n_ready, still_s = still.since.elapsed().as_secs(), "a queue is stalled: jobs are ready, a worker has room, and none is leased");
    Ok(())
}

async fn clear(ctx: &Context, watch: &mut Watch, queue: &QueueName) -> Result<()> {
    let mut cmd = redis::cmd("HDEL");
    cmd.arg(QueueKeys::new(&ctx.keys, queue).cfg()).arg(STALLED_SINCE);
    cmd.exec_async(&mut ctx.redis.connection()).await?;
    if let Some(still) = watch.0.get_mut(queue) {
        still.is_alarmed = false;
    }
    tracing::warn!(%queue, "a queue that was stalled moves again, or has nobody to move it");
    Ok(())
}

/// Takes over from a leader that is gone: what it had raised is ours to clear.
pub async fn inherit(ctx: &Context, watch: &mut Watch) -> Result<()> {
    for row in store::queues(&ctx.pg).await? {
        if stalled_since(ctx, &row.name).await?.is_some() {
            watch.0.insert(row.name, Standstill { n_leased: 0, since: Instant::now(), is_alarmed: true });
        }
    }
    Ok(())
}

/// Since when the queue is stalled; `None` while all is well.
pub async fn stalled_since(ctx: &Context, queue: &QueueName) -> Result<Option<OffsetDateTime>> {
    let mut cmd = redis::cmd("HGET");
    cmd.arg(QueueKeys::new(&ctx.keys, queue).cfg()).arg(STALLED_SINCE);
    let since_ms: Option<i64> = cmd.query_async(&mut ctx.redis.connection()).await?;
    Ok(since_ms.and_then(from_unix_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_stands_still_only_while_jobs_are_ready_and_none_is_leased() {
        let (mut watch, queue, start) = (Watch::default(), QueueName::default(), Instant::now());
        let mut see = |n_ready, n_leased, at_s| watch.see(&queue, Look { n_ready, n_leased }, start + Duration::from_secs(at_s)).as_secs();
        assert_eq!(see(5, 10, 0), 0);
        assert_eq!(see(5, 10, 20), 20);
        assert_eq!(see(5, 11, 30), 0, "one was leased");
        assert_eq!(see(9, 11, 50), 20);
        assert_eq!(see(0, 11, 60), 0, "nothing waits");
        assert_eq!(see(1, 11, 61), 1);
        assert_eq!(see(1, 0, 70), 0, "Redis was emptied");
    }
}
