//! The leader's fast loop: due jobs become ready, expired leases are dealt with, and a Redis that restarted or was emptied
//! is noticed and filled again.

use shared::redis::Connection;
use shared::{
    Context, Result,
    jobs::{
        QueueName,
        engine::{
            QueueKeys, QueueRow, discovery,
            doorbell::{self, Bell},
            expire, reconcile,
        },
    },
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::task::AbortOnDropHandle;

/// After an outage expired leases are left alone for so long: workers that lived through it try every half second to extend them.
const HEARTBEATS_BACK: Duration = Duration::from_secs(3);

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

/// A queue, and its rebuild while one is under way.
struct Swept {
    row: QueueRow,
    keys: QueueKeys,
    rebuild: Option<AbortOnDropHandle<()>>,
}

async fn sweep(ctx: &Context, mut rows: watch::Receiver<Vec<QueueRow>>, bell: &Bell, unknown_queue: &Notify) {
    let mut connection = match ctx.redis.own_connection(&ctx.settings()) {
        Ok(connection) => connection,
        Err(error) => return tracing::error!(%error, "the sweep has no connection"),
    };
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
                // Known queues are the workers' business; a new one waits for us to let it be leased from.
                if bell.take().iter().any(|name| !queues.contains_key(name)) {
                    unknown_queue.notify_one();
                }
                continue;
            }
        }
        take_rows(ctx, &mut queues, &rows.borrow_and_update());
        let leases = if Instant::now() < spared_until { Leases::Spared } else { Leases::Returned };
        let result = sweep_all(ctx, &mut connection, &mut queues, leases).await;
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

/// Sweeps every queue, although one may fail; returns the last failure.
async fn sweep_all(ctx: &Context, connection: &mut Connection, queues: &mut HashMap<QueueName, Swept>, leases: Leases) -> Result<()> {
    let mut result = Ok(());
    for queue in queues.values_mut() {
        if let Err(error) = sweep_queue(ctx, connection, queue, leases).await {
            result = Err(error);
        }
    }
    result
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
            rebuild: None,
        });
        queue.row = row.clone();
    }
}

async fn sweep_queue(ctx: &Context, connection: &mut Connection, queue: &mut Swept, leases: Leases) -> Result<()> {
    loop {
        let swept = match leases {
            Leases::Returned => expire::sweep(ctx, connection, &queue.keys).await?,
            Leases::Spared => expire::promote(connection, &queue.keys).await?,
        };
        if !swept.is_known {
            reconcile::restore(ctx, &queue.row).await?;
            rebuild(ctx, queue);
        } else if swept.is_rebuilding && queue.rebuild.is_none() {
            // Whoever led before was lost in the middle of it.
            rebuild(ctx, queue);
        }
        if !swept.has_more {
            return Ok(());
        }
    }
}

/// Rebuilds a queue that is open for leasing already; a rebuild under way starts over.
fn rebuild(ctx: &Context, queue: &mut Swept) {
    let (ctx, name) = (ctx.clone(), queue.row.name.clone());
    queue.rebuild = Some(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            match reconcile::rebuild(&ctx, &name).await {
                Ok(n_jobs) => return tracing::info!(queue = %name, n_jobs, "the queue was loaded into Redis"),
                Err(error) => tracing::warn!(%error, queue = %name, "a rebuild failed; it starts over"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })));
}
