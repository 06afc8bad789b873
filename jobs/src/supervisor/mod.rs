//! The parent process: it runs no jobs. It starts the children, restarts those that die, hands signals on, and serves
//! health and the children's metrics.

mod aftermath;
mod child_process;
mod exposition;
mod http;
mod place;
mod presence;
mod pulse;
mod quarantine;
mod signals;

use crate::child::Duty;
use place::Place;
use pulse::Pulse;
use shared::{
    Context, Result,
    capacity::pools,
    config::{Layers, Settings},
    ids::WorkerId,
    jobs::{
        QueueName,
        engine::{QueueRow, discovery, relay::Scribes, timekeeping},
        workers,
    },
    pg,
    redis::Redis,
    telemetry::{
        logs::LogLevel,
        metrics::{self, Teller},
        pulse as feeling, service,
        traces::export::Exporter,
    },
    vital::{steadily, vital},
};
use signals::{Heard, Signals};
use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, mpsc, watch},
    task::JoinSet,
    time::interval,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// Successors that are started at once, in all places: more would slow each other down, and what runs.
const STARTS_MAX: usize = 2;
/// How long the collector may take for the last traces.
const LAST_TRACES: Duration = Duration::from_secs(1);
/// How often the children of a worker that starts are looked at.
const READY_EVERY: Duration = Duration::from_millis(50);

/// What the children are to do; only ever goes forward, but for the way out of [`Order::Quiet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Run,
    Quiet,
    Warm,
    Cold,
}

/// How a child of this worker is started.
#[derive(Debug, Clone)]
struct Plan {
    worker_id: WorkerId,
    index: usize,
    slots: usize,
    duty: Duty,
    /// Jobs after which the next child that is started is replaced; 0 = never.
    max_tasks: u64,
    /// Settings that came as flags.
    flags: Vec<(&'static str, String)>,
}

/// What all places of this worker share.
#[derive(Debug)]
struct Crew {
    ctx: Context,
    order: watch::Receiver<Order>,
    queues: watch::Receiver<Vec<QueueRow>>,
    /// `LOG_LEVEL`, as it was last read.
    log_level: watch::Receiver<String>,
    /// Rung when a child here has left suspects.
    suspects: Notify,
    /// What is being done about children that crashed.
    aftermaths: TaskTracker,
    /// Has the list of queues read again.
    unknown_queue: Notify,
    starts: Arc<Semaphore>,
    /// Write successes for the children.
    scribes: Scribes,
    /// Deliveries that succeeded in children that are gone, and that ended otherwise there.
    past: (AtomicU64, AtomicU64),
}

impl Crew {
    fn count_past(&self, n_done: u64, n_failed: u64) {
        self.past.0.fetch_add(n_done, Ordering::Relaxed);
        self.past.1.fetch_add(n_failed, Ordering::Relaxed);
    }

    fn past(&self) -> (u64, u64) {
        (self.past.0.load(Ordering::Relaxed), self.past.1.load(Ordering::Relaxed))
    }

    /// The queues this worker consumes, as far as they are known.
    fn queues(&self) -> Vec<QueueName> {
        self.rows().into_iter().map(|row| row.name).collect()
    }

    /// Those of them that may be leased from.
    fn open_queues(&self) -> Vec<QueueName> {
        self.rows().into_iter().filter(|row| !row.is_paused).map(|row| row.name).collect()
    }

    fn rows(&self) -> Vec<QueueRow> {
        let settings = self.ctx.settings();
        let named = &settings.worker_queues;
        let is_ours = |row: &&QueueRow| if named.is_empty() { !row.is_remote } else { named.iter().any(|name| name == row.name.as_str()) };
        self.queues.borrow().iter().filter(is_ours).cloned().collect()
    }
}

/// Supervises until told to stop and all children have ended.
pub async fn run(mut settings: Settings, flags: Vec<(&'static str, String)>, log_level: LogLevel) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    pg::fit_worker_pool(&mut settings).await;
    Redis::open(&settings)?.refuse_eviction(settings.profile.is_development()).await?;
    let order = watch::Sender::new(Order::Run);
    let worker_id = WorkerId::new();
    let level = watch::Sender::new(settings.log_level.clone());
    let (crew, _upkeep) = gather(&settings, order.subscribe(), level.subscribe())?;
    let exporter = Exporter::new(&settings, "millrace-jobs")?.map(Arc::new);
    let _sending = exporter
        .clone()
        .map(|exporter| AbortOnDropHandle::new(tokio::spawn(async move { steadily("traces", || exporter.keep_sending()).await })));
    // Before anything is leased: children begin with this process's clock.
    timekeeping::look(&crew.ctx).await;
    let mut children = JoinSet::new();
    let slots = deal(settings.worker_concurrency, settings.worker_children());
    let (n_children, max_tasks) = (slots.len(), settings.worker_max_tasks_per_child);
    let plan = Plan { worker_id, index: n_children, slots: 1, duty: Duty::Ordinary, max_tasks, flags: flags.clone() };
    let mut ordinary = Vec::new();
    for (index, slots) in slots.into_iter().enumerate() {
        let plan = Plan { index, slots, max_tasks: first_share(max_tasks, index, n_children), ..plan.clone() };
        let pulse = Arc::new(Pulse::default());
        children.spawn(vital("a place of children", Place::new(&crew, plan, &pulse).keep()));
        ordinary.push(pulse);
    }
    tracing::info!(%worker_id, n_children, concurrency = settings.worker_concurrency, "the worker is up");
    let maintenance = Arc::new(Pulse::default());
    let maintaining = Place::new(&crew, Plan { duty: Duty::Maintenance, slots: 0, ..plan.clone() }, &maintenance).keep();
    children.spawn(vital("the place of maintenance", maintaining));
    let wards: Vec<Arc<Pulse>> = (0..settings.worker_quarantine_children).map(|_| Arc::default()).collect();
    let wardens = quarantine::run(Arc::clone(&crew), Plan { duty: Duty::Quarantine, ..plan }, wards.clone());
    children.spawn(vital("quarantine", wardens));
    let (told, mut from_afar) = mpsc::channel(1);
    let presence = presence::spawn(&crew, worker_id, told);
    let _telling =
        AbortOnDropHandle::new(tokio::spawn(vital("service manager", tell_service_manager(ordinary.clone(), order.subscribe()))));
    let _http = serve_http(&settings, Pulses { ordinary, wards, maintenance }, order.subscribe()).await;
    loop {
        tokio::select! {
            heard = signals.next() => match heard {
                Heard::Order(heard) => raise(&order, heard),
                Heard::Reload => reload(&flags, &log_level, &level),
            },
            Some(heard) = from_afar.recv() => raise(&order, heard),
            ended = children.join_next() => if ended.is_none() { break },
        }
    }
    tracing::info!("all children have ended");
    crew.aftermaths.close();
    crew.aftermaths.wait().await;
    drop(presence);
    if let Some(exporter) = exporter {
        exporter.flush(LAST_TRACES).await;
    }
    take_off_the_list(&crew.ctx, worker_id).await;
    Ok(ExitCode::SUCCESS)
}

fn gather(
    settings: &Settings,
    order: watch::Receiver<Order>,
    log_level: watch::Receiver<String>,
) -> Result<(Arc<Crew>, AbortOnDropHandle<()>)> {
    let (rows, queues) = watch::channel(Vec::new());
    let pools = pools::of_worker(settings.db_pool_max_of_worker(), settings.n_children());
    let crew = Arc::new(Crew {
        ctx: Context::open_spare(settings.clone())?,
        order,
        queues,
        log_level,
        suspects: Notify::new(),
        aftermaths: TaskTracker::new(),
        unknown_queue: Notify::new(),
        starts: Arc::new(Semaphore::new(STARTS_MAX)),
        scribes: Scribes::new(usize::try_from(pools.scribes).expect("they are few")),
        past: (AtomicU64::new(0), AtomicU64::new(0)),
    });
    let ours = Arc::clone(&crew);
    let upkeep = tokio::spawn(async move {
        tokio::join!(
            steadily("discovery", || discovery::discover(&ours.ctx, &rows, &ours.unknown_queue)),
            steadily("timekeeping", || timekeeping::follow(&ours.ctx)),
            steadily("pulse", || feeling::keep(&ours.ctx, "jobs-supervisor")),
        );
    });
    Ok((crew, AbortOnDropHandle::new(upkeep)))
}

/// SIGHUP: takes over `LOG_LEVEL`, for the children too; all else is read when a worker starts. A configuration with problems
/// changes nothing.
fn reload(flags: &[(&'static str, String)], log_level: &LogLevel, level: &watch::Sender<String>) {
    match Layers::from_process(flags).and_then(|layers| Settings::load(&layers)) {
        Ok(settings) => {
            log_level.set(&settings.log_level);
            level.send_replace(settings.log_level);
            tracing::info!("settings reloaded");
        }
        Err(problems) => tracing::error!(%problems, "settings not reloaded"),
    }
}

/// Ready is a worker whose children all are, for the first time.
async fn tell_service_manager(pulses: Vec<Arc<Pulse>>, mut order: watch::Receiver<Order>) {
    let mut ticks = interval(READY_EVERY);
    let mut is_ready = false;
    tokio::select! {
        () = service::keep_alive() => {}
        () = async {
            loop {
                tokio::select! {
                    _ = ticks.tick(), if !is_ready => {
                        is_ready = pulses.iter().all(|pulse| pulse.is_beating());
                        if is_ready {
                            service::ready();
                        }
                    }
                    _ = order.wait_for(|order| *order >= Order::Warm) => break,
                }
            }
            service::stopping();
            service::keep_alive().await;
        } => {}
    }
}

/// A worker that ends in order is not to be shown as lost. Best effort: the entry expires by itself.
async fn take_off_the_list(ctx: &Context, worker_id: WorkerId) {
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), workers::forget(ctx, worker_id)).await {
        tracing::debug!(%error, "the worker stays on the list until it expires");
    }
}

/// Slots by child: evenly, the first ones get the remainder.
fn deal(slots: usize, n_children: usize) -> Vec<usize> {
    (0..n_children).map(|index| slots / n_children + usize::from(index < slots % n_children)).collect()
}

/// Jobs that the first child of a place may run: spread over the children, so that they are never all replaced at once.
fn first_share(max_tasks: u64, index: usize, n_children: usize) -> u64 {
    let (place, n_places) = (index as u64 + 1, n_children as u64);
    (max_tasks * place).div_ceil(n_places)
}

/// A second warm stop is a cold one. A quiet worker may be told to go on; one that stops may not.
fn raise(order: &watch::Sender<Order>, heard: Order) {
    let now = *order.borrow();
    let next = match (heard, now) {
        (Order::Warm, Order::Warm | Order::Cold) => Order::Cold,
        (Order::Run, Order::Quiet) => Order::Run,
        (heard, now) => heard.max(now),
    };
    if next != now {
        tracing::info!(order = ?next, "told");
        order.send_replace(next);
    }
}

/// Serves `WORKER_METRICS_ADDR`; a second worker on the same host finds it taken, and goes on without.
async fn serve_http(settings: &Settings, pulses: Pulses, order: watch::Receiver<Order>) -> Option<AbortOnDropHandle<()>> {
    let addr = settings.worker_metrics_addr?;
    match http::bind(addr, pulses, order, metrics::install(Teller::Worker)).await {
        Ok(serving) => Some(AbortOnDropHandle::new(tokio::spawn(vital("health and metrics", serving)))),
        Err(error) => {
            tracing::warn!(%addr, %error, "health and metrics are not served");
            None
        }
    }
}

/// The ways to ask the children: those that are always there, those that run suspects now and then, the
/// one that runs no jobs.
#[derive(Debug)]
struct Pulses {
    ordinary: Vec<Arc<Pulse>>,
    wards: Vec<Arc<Pulse>>,
    maintenance: Arc<Pulse>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_dealt_evenly_and_all() {
        assert_eq!(deal(12, 4), [3, 3, 3, 3]);
        assert_eq!(deal(7, 3), [3, 2, 2]);
    }

    #[test]
    fn first_children_are_replaced_one_after_the_other() {
        let shares = |max_tasks| (0..4).map(|index| first_share(max_tasks, index, 4)).collect::<Vec<_>>();
        assert_eq!(shares(1_000), [250, 500, 750, 1_000]);
        assert_eq!(shares(1), [1, 1, 1, 1]);
        assert_eq!(shares(0), [0, 0, 0, 0], "without end");
    }

    #[test]
    fn orders_go_forward_and_a_second_term_is_cold() {
        let order = watch::Sender::new(Order::Run);
        for (heard, expected) in [
            (Order::Quiet, Order::Quiet),
            (Order::Run, Order::Run),
            (Order::Quiet, Order::Quiet),
            (Order::Warm, Order::Warm),
            (Order::Quiet, Order::Warm),
            (Order::Run, Order::Warm),
            (Order::Warm, Order::Cold),
        ] {
            raise(&order, heard);
            assert_eq!(*order.borrow(), expected);
        }
    }
}
