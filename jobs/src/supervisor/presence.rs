//! What a worker says of itself once a second, to those who look at workers, and what it hears from operators in return.

use super::{Crew, Order};
use shared::{
    Result,
    ids::WorkerId,
    jobs::{
        worker_orders::WorkerOrder,
        workers::{self, WorkerInstance, WorkerKind, WorkerState},
    },
    nodes,
    vital::steadily,
};
use std::{process, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::task::AbortOnDropHandle;

const EVERY: Duration = Duration::from_secs(1);

/// Reports until the handle is dropped.
pub(super) fn spawn(crew: &Arc<Crew>, worker_id: WorkerId, told: mpsc::Sender<Order>) -> AbortOnDropHandle<()> {
    let crew = Arc::clone(crew);
    AbortOnDropHandle::new(tokio::spawn(async move { steadily("presence", || keep_reporting(&crew, worker_id, &told)).await }))
}

async fn keep_reporting(crew: &Crew, worker_id: WorkerId, told: &mpsc::Sender<Order>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut order = crew.order.clone();
    let (started_at, mut was_heard) = (crew.ctx.clock.now(), true);
    loop {
        // A change of what it does is shown at once.
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = order.changed() => {}
        }
        match report(crew, worker_id, started_at, told).await {
            Ok(()) => was_heard = true,
            Err(error) if was_heard => {
                tracing::warn!(%error, "this worker cannot report itself");
                was_heard = false;
            }
            Err(_) => {}
        }
    }
}

async fn report(crew: &Crew, worker_id: WorkerId, started_at: OffsetDateTime, told: &mpsc::Sender<Order>) -> Result<()> {
    for order in workers::report(&crew.ctx, &instance(crew, worker_id, started_at)).await? {
        let order = match order {
            WorkerOrder::Quiet => Order::Quiet,
            WorkerOrder::Resume => Order::Run,
            // A second one is no haste: that is for whoever stands at the machine.
            WorkerOrder::Stop if *crew.order.borrow() >= Order::Warm => continue,
            WorkerOrder::Stop => Order::Warm,
        };
        tracing::info!(?order, "told from afar");
        let _ = told.send(order).await;
    }
    Ok(())
}

fn instance(crew: &Crew, id: WorkerId, started_at: OffsetDateTime) -> WorkerInstance {
    let settings = crew.ctx.settings();
    let (host, pid) = (nodes::host(), process::id());
    let (tasks_done, tasks_failed) = crew.past();
    WorkerInstance {
        id,
        kind: WorkerKind::Process,
        name: format!("{host}-{pid}"),
        host,
        pid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        queues: settings.worker_queues.clone(),
        concurrency: settings.worker_concurrency,
        prefetch: settings.worker_concurrency * settings.worker_prefetch_multiplier,
        state: match *crew.order.borrow() {
            Order::Run => WorkerState::Running,
            Order::Quiet => WorkerState::Quiet,
            Order::Warm | Order::Cold => WorkerState::Draining,
        },
        started_at,
        heartbeat_at: Some(crew.ctx.clock.now()),
        tasks_done,
        tasks_failed,
    }
}
