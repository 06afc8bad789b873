//! The parent process: it runs no jobs. It starts the children, restarts those that die, hands signals on, and serves
//! health and the children's metrics.

mod aftermath;
mod child_process;
mod exposition;
mod http;
mod quarantine;

use crate::child::Duty;
use child_process::{ChildProcess, Pulse};
use shared::{
    Context, Error, Result,
    config::Settings,
    ids::WorkerId,
    jobs::{
        QueueName,
        engine::{QueueRow, discovery},
        workers,
    },
    redis::Redis,
};
use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// Wait before a child that died is started again: doubles from the first to the last while children die young.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_LAST: Duration = Duration::from_secs(10);
/// A child that lived so long did not die young.
const GROWN_UP: Duration = Duration::from_secs(10);

/// What the children are to do; only ever goes forward.
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
    /// Settings that came as flags.
    flags: Vec<(&'static str, String)>,
}

/// What all places of this worker share.
#[derive(Debug)]
struct Crew {
    ctx: Context,
    order: watch::Receiver<Order>,
    queues: watch::Receiver<Vec<QueueRow>>,
    /// Rung when a child here has left suspects.
    suspects: Notify,
    /// What is being done about children that crashed.
    aftermaths: TaskTracker,
}

impl Crew {
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
pub async fn run(settings: Settings, flags: Vec<(&'static str, String)>) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    Redis::open(&settings)?.refuse_eviction(settings.profile.is_development()).await?;
    let order = watch::Sender::new(Order::Run);
    let worker_id = WorkerId::new();
    let ctx = Context::open_spare(settings.clone())?;
    let (rows, queues) = watch::channel(Vec::new());
    let _discovery = discover(&ctx, rows);
    let crew = Arc::new(Crew { ctx, order: order.subscribe(), queues, suspects: Notify::new(), aftermaths: TaskTracker::new() });
    let mut pulses = Vec::new();
    let mut children = JoinSet::new();
    let slots = deal(settings.worker_concurrency, settings.worker_children());
    let next_index = slots.len();
    for (index, slots) in slots.into_iter().enumerate() {
        let plan = Plan { worker_id, index, slots, duty: Duty::Ordinary, flags: flags.clone() };
        let pulse = Arc::new(Pulse::default());
        pulses.push(Arc::clone(&pulse));
        children.spawn(keep_alive(Arc::clone(&crew), plan, pulse));
    }
    tracing::info!(%worker_id, n_children = pulses.len(), concurrency = settings.worker_concurrency, "the worker is up");
    let plan = Plan { worker_id, index: next_index, slots: 1, duty: Duty::Quarantine, flags };
    let wards: Vec<Arc<Pulse>> = (0..settings.worker_quarantine_children).map(|_| Arc::default()).collect();
    children.spawn(quarantine::run(Arc::clone(&crew), plan, wards.clone()));
    let _http = serve_http(&settings, Pulses { ordinary: pulses, wards }, order.subscribe()).await;
    loop {
        tokio::select! {
            heard = signals.next() => raise(&order, heard),
            ended = children.join_next() => if ended.is_none() { break },
        }
    }
    tracing::info!("all children have ended");
    crew.aftermaths.close();
    crew.aftermaths.wait().await;
    take_off_the_list(&crew.ctx, worker_id).await;
    Ok(ExitCode::SUCCESS)
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

/// A second warm stop is a cold one.
fn raise(order: &watch::Sender<Order>, heard: Order) {
    let now = *order.borrow();
    let next = if heard == Order::Warm && now >= Order::Warm { Order::Cold } else { heard.max(now) };
    if next != now {
        tracing::info!(order = ?next, "told to stop");
        order.send_replace(next);
    }
}

/// Runs one child after the other until the worker stops.
async fn keep_alive(crew: Arc<Crew>, plan: Plan, pulse: Arc<Pulse>) {
    let mut order = crew.order.clone();
    let mut pause = RESTART_FIRST;
    loop {
        let started = Instant::now();
        match ChildProcess::start(&plan, &pulse).await {
            Ok(child) => {
                let ended = child.run(&mut order, &crew.ctx.settings()).await;
                let is_told = *order.borrow() >= Order::Warm;
                if !is_told {
                    tracing::error!(index = plan.index, status = ended.how(), "a child ended by itself; another takes its place");
                }
                aftermath::begin(&crew, &plan, ended);
                if is_told {
                    return;
                }
            }
            Err(error) => tracing::error!(index = plan.index, %error, "a child could not be started"),
        }
        pause = if started.elapsed() >= GROWN_UP { RESTART_FIRST } else { (pause * 2).min(RESTART_LAST) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = order.wait_for(|order| *order >= Order::Warm) => return,
        }
    }
}

/// Serves `WORKER_METRICS_ADDR`; a second worker on the same host finds it taken, and goes on without.
async fn serve_http(settings: &Settings, pulses: Pulses, order: watch::Receiver<Order>) -> Option<AbortOnDropHandle<()>> {
    let addr = settings.worker_metrics_addr?;
    match http::bind(addr, pulses, order).await {
        Ok(serving) => Some(AbortOnDropHandle::new(tokio::spawn(serving))),
        Err(error) => {
            tracing::warn!(%addr, %error, "health and metrics are not served");
            None
        }
    }
}

fn discover(ctx: &Context, rows: watch::Sender<Vec<QueueRow>>) -> AbortOnDropHandle<()> {
    let ctx = ctx.clone();
    AbortOnDropHandle::new(tokio::spawn(async move { discovery::discover(&ctx, &rows, &Notify::new()).await }))
}

/// The ways to ask the children: those that are always there, and those that run suspects now and then.
#[derive(Debug)]
struct Pulses {
    ordinary: Vec<Arc<Pulse>>,
    wards: Vec<Arc<Pulse>>,
}

/// The signals a supervisor acts on.
#[derive(Debug)]
struct Signals {
    quiet: Signal,
    warm: Signal,
    interrupt: Signal,
    cold: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let on = |kind: SignalKind| signal(kind).map_err(Error::internal);
        Ok(Self {
            quiet: on(SignalKind::from_raw(nix::libc::SIGTSTP))?,
            warm: on(SignalKind::terminate())?,
            // Ctrl-C means the same: the children are in groups of their own and do not get it.
            interrupt: on(SignalKind::interrupt())?,
            cold: on(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            Some(()) = self.quiet.recv() => Order::Quiet,
            Some(()) = self.warm.recv() => Order::Warm,
            Some(()) = self.interrupt.recv() => Order::Warm,
            Some(()) = self.cold.recv() => Order::Cold,
            else => std::future::pending().await,
        }
    }
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
    fn orders_go_forward_and_a_second_term_is_cold() {
        let order = watch::Sender::new(Order::Run);
        for (heard, expected) in
            [(Order::Quiet, Order::Quiet), (Order::Warm, Order::Warm), (Order::Quiet, Order::Warm), (Order::Warm, Order::Cold)]
        {
            raise(&order, heard);
            assert_eq!(*order.borrow(), expected);
        }
    }
}
