//! The leader's fast loop: due jobs become ready, expired leases are dealt with, and a Redis that restarted or was emptied
//! is noticed and filled again.

use futures_util::future::join_all;
use shared::redis::Connection;
use shared::{
    Context, Result,
    jobs::{
        QueueName,
        engine::{
            Limits, QueueKeys, QueueRow, discovery,
            doorbell::{self, Bell},
            expire, reconcile, set_limits,
        },
    },
    vital::steadily,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::task::AbortOnDropHandle;

/// After an outage expired leases are left alone for so long: workers that lived through it try every half second to extend them.
const HEARTBEATS_BACK: Duration = Duration::from_secs(3);

/// A queue at rest is swept again after so long, although its doorbell did not ring: a ring may be lost.
const REST: Duration = Duration::from_secs(1);
/// Queues swept at once.
const SWEEPS_AT_ONCE: usize = 32;
/// Queues loaded into Redis at once, each by statements and scripts of a thousand jobs.
const REBUILDS_AT_ONCE: usize = 4;

/// Whether this Redis knew the queues that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Yes,
    No,
}

/// What becomes of leases that have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leases {
    Returned,
    Spared,
}

/// Sweeps for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let bell = Arc::new(Bell::default());
    let unknown_queue = Notify::new();
    let (rows, queues) = watch::channel(Vec::new());
    tokio::join!(
        doorbell::listen(ctx, &bell, None),
        discovery::discover(ctx, &rows, &unknown_queue),
        sweep(ctx, queues, &bell, &unknown_queue),
    );
}

/// A queue, when it is looked at next, and its rebuild while one is under way.
struct Swept {
    row: QueueRow,
    keys: QueueKeys,
    due_at: Instant,
    rebuild: Option<AbortOnDropHandle<()>>,
    /// The limits that this leader saw to.
    limits: Option<Limits>,
}

struct Sweeper<'a> {
    ctx: &'a Context,
    connection: Connection,
    rebuilds: Arc<Semaphore>,
}

async fn sweep(ctx: &Context, mut rows: watch::Receiver<Vec<QueueRow>>, bell: &Bell, unknown_queue: &Notify) {
    let connection = match ctx.redis.own_connection(&ctx.settings()) {
        Ok(connection) => connection,
        Err(error) => return tracing::error!(%error, "the sweep has no connection"),
    };
    let sweeper = Sweeper { ctx, connection, rebuilds: Arc::new(Semaphore::new(REBUILDS_AT_ONCE)) };
    let mut ticks = interval(Duration::from_millis(ctx.settings().worker_sweep_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut queues: HashMap<QueueName, Swept> = HashMap::new();
    let mut was_swept = true;
    let mut spared_until = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = rows.changed() => {}
            () = bell.rung() => {
                // What rang is the workers' business, and at rest no more; a new one waits for us to let it be leased from.
                for name in bell.take() {
                    match queues.get_mut(&name) {
                        Some(queue) => queue.due_at = Instant::now(),
                        None => unknown_queue.notify_one(),
                    }
                }
                continue;
            }
        }
        take_rows(ctx, &mut queues, &rows.borrow_and_update());
        let leases = if Instant::now() < spared_until { Leases::Spared } else { Leases::Returned };
        let result = sweeper.sweep_all(&mut queues, leases).await;
        match &result {
            Ok(()) if !was_swept => tracing::info!("sweeps succeed again"),
            Err(error) if was_swept => tracing::warn!(%error, "a sweep failed; it is tried again until it succeeds"),
            Ok(()) | Err(_) => {}
        }
        was_swept = result.is_ok();
        if !was_swept {
            spared_until = Instant::now() + HEARTBEATS_BACK;
        }
    }
}

fn take_rows(ctx: &Context, queues: &mut HashMap<QueueName, Swept>, rows: &[QueueRow]) {
    if queues.len() > rows.len() {
        let names = rows.iter().map(|row| &row.name).collect::<HashSet<_>>();
        queues.retain(|name, _| names.contains(name));
    }
    for row in rows {
        let queue = queues.entry(row.name.clone()).or_insert_with(|| Swept {
            row: row.clone(),
            keys: QueueKeys::new(&ctx.keys, &row.name),
            due_at: Instant::now(),
            rebuild: None,
            limits: None,
        });
        queue.row = row.clone();
    }
}

impl Sweeper<'_> {
    /// Sweeps every queue that is due, although one may fail; returns one of the failures.
    async fn sweep_all(&self, queues: &mut HashMap<QueueName, Swept>, leases: Leases) -> Result<()> {
        let now = Instant::now();
        let mut due: Vec<_> = queues.values_mut().filter(|queue| queue.due_at <= now).collect();
        let mut outcome = Ok(Known::Yes);
        for some in due.chunks_mut(SWEEPS_AT_ONCE) {
            // One connection: the calls of all these queues leave together.
            let mut sweeps = Vec::with_capacity(some.len());
            for queue in some {
                sweeps.push(self.sweep_queue(queue, leases));
            }
            for swept in join_all(sweeps).await {
                outcome = outcome.and_then(|all| swept.map(|one| all.max(one)));
            }
        }
        // A Redis that does not know one queue hardly knows the others.
        if outcome.as_ref().map_or(true, |known| *known == Known::No) {
            queues.values_mut().for_each(|queue| queue.due_at = now);
        }
        outcome.map(drop)
    }

    async fn sweep_queue(&self, queue: &mut Swept, leases: Leases) -> Result<Known> {
        let mut known = Known::Yes;
        let mut connection = self.connection.clone();
        loop {
            let swept = match leases {
                Leases::Returned => expire::sweep(self.ctx, &mut connection, &queue.keys).await?,
                Leases::Spared => expire::promote(&mut connection, &queue.keys).await?,
            };
            if !swept.is_known {
                known = Known::No;
                reconcile::restore(self.ctx, &queue.row).await?;
                self.rebuild(queue);
                queue.limits = Some(queue.row.limits);
            } else if swept.is_rebuilding && queue.rebuild.is_none() {
                // Whoever led before was lost in the middle of it.
                self.rebuild(queue);
            }
            if queue.limits != Some(queue.row.limits) {
                set_limits(self.ctx, &queue.row.name, &queue.row.limits).await?;
                queue.limits = Some(queue.row.limits);
            }
            if !swept.has_more {
                queue.due_at = Instant::now() + if swept.is_known && swept.is_at_rest { REST } else { Duration::ZERO };
                return Ok(known);
            }
        }
    }

    /// Rebuilds a queue that is open for leasing already; a rebuild under way starts over.
    fn rebuild(&self, queue: &mut Swept) {
        let (ctx, name, rebuilds) = (self.ctx.clone(), queue.row.name.clone(), Arc::clone(&self.rebuilds));
        queue.rebuild = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let Ok(_turn) = rebuilds.acquire().await else { return };
            steadily("rebuild", || load(&ctx, &name)).await;
        })));
    }
}

async fn load(ctx: &Context, queue: &QueueName) {
    loop {
        match reconcile::rebuild(ctx, queue).await {
            Ok(n_jobs) => return tracing::info!(%queue, n_jobs, "the queue was loaded into Redis"),
            Err(error) => tracing::warn!(%error, %queue, "a rebuild failed; it starts over"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
