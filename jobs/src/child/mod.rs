//! One child process: it leases, runs and settles, around one apalis worker. It ends when its supervisor says so, and when
//! its supervisor is gone.

mod ingest;
mod orders;
mod reporting;
pub(crate) mod stopping;

use crate::{
    attempt::{Limits, Runner},
    black_box::Recorder,
    maintenance,
    registry::Registry,
};
use apalis::layers::WorkerBuilderExt;
use apalis_core::{
    task::Task,
    worker::{builder::WorkerBuilder, ext::parallelize::ParallelizeExt},
};
use orders::Orders;
use shared::{
    Context, Error, Result,
    config::Settings,
    ids::WorkerId,
    jobs::{
        QueueName,
        backend::EngineBackend,
        engine::{
            Nonce, QueueRow, discovery,
            doorbell::{self, Bell},
            heartbeat,
            held::{Held, LeasedJob},
            leaser::{End, Leaser, Mode, Wiring, Wishes},
            progress::Board,
            scripts::{Holder, LeaseFrom},
            timekeeping,
        },
    },
};
use std::{
    convert::Infallible,
    future::Future,
    path::PathBuf,
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};
use stopping::Stopper;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// How long a child without suspects stays for the next one.
const IDLE_FOR: Duration = Duration::from_secs(3);
/// The supervisor takes a record for a running attempt so long after it ended, at most.
const TIDY_EVERY: Duration = Duration::from_millis(250);

/// What the supervisor tells a child about itself.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub worker_id: WorkerId,
    pub index: usize,
    pub slots: usize,
    pub supervisor_pid: u32,
    /// Of its leases: known to the supervisor, who hands them back if the child cannot.
    pub nonce: Nonce,
    pub black_box: PathBuf,
    pub duty: Duty,
}

/// What a child is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    Ordinary,
    /// Runs suspects of a crash, one at a time and nothing beside; ends when there have been none for a while.
    Quarantine,
}

/// Runs until it is told to stop; attempts run on `handlers`, everything else where this is called.
pub async fn run(ctx: Context, assignment: Assignment, handlers: Handle) -> Result<ExitCode> {
    let orders = Orders::listen()?;
    let recorder = Arc::new(Recorder::open(&assignment.black_box).map_err(Error::internal)?);
    let held = Arc::new(Held::default());
    let give_up = CancellationToken::new();
    let mode = watch::Sender::new(Mode::Lease);
    let mut tasks = Vec::new();

    // Before anything is leased.
    timekeeping::look(&ctx).await;
    tasks.push(spawn_timekeeping(&ctx));
    let (queues, unknown_queue) = discover(&ctx, &mut tasks);
    let bell = Arc::new(Bell::default());
    tasks.push(spawn_doorbell(&ctx, &bell, &held));
    tasks.push(spawn_heartbeat(&ctx, &held));
    tasks.push(reporting::spawn(&ctx, &assignment, &held, mode.subscribe()));
    tasks.push(spawn_tidying(&ctx, &recorder));
    let progress = Arc::new(Board::default());
    tasks.push(spawn_progress(&ctx, &progress, &held));
    if assignment.duty == Duty::Ordinary {
        tasks.push(AbortOnDropHandle::new(tokio::spawn(maintenance::run(ctx.clone()))));
    }

    let ingest = ingest::spawn(&ctx, &assignment);
    let wishes = wishes(&ctx.settings(), &assignment);
    let (jobs_tx, jobs) = mpsc::channel(wishes.prefetch);
    let (ended, ended_rx) = mpsc::channel(wishes.prefetch);
    let wiring = Wiring {
        jobs: Some(jobs_tx),
        ended: ended_rx,
        queues,
        mode: mode.subscribe(),
        bell,
        unknown_queue,
        held: Arc::clone(&held),
        give_up: give_up.clone(),
    };
    let settled = spawn_leaser(Leaser::new(ctx.clone(), wishes, wiring)?);
    let backend = EngineBackend::new(jobs, ended, mode.clone(), settled);
    let runner = Arc::new(runner(&ctx, &held, recorder, progress, &handlers)?);
    let worker = spawn_worker(backend, runner, &assignment, &handlers);

    let idle = idle(assignment.duty, Arc::clone(&held));
    let code = Stopper::new(&ctx, mode, held, give_up).run(orders, worker, idle).await;
    ingest.stop().await;
    drop(tasks);
    reporting::retire(&ctx, &assignment).await;
    Ok(code)
}

fn wishes(settings: &Settings, assignment: &Assignment) -> Wishes {
    Wishes {
        holder: Holder {
            nonce: assignment.nonce,
            worker_id: assignment.worker_id.to_string(),
            lease: Duration::from_millis(settings.worker_lease_ms),
        },
        from: match assignment.duty {
            Duty::Ordinary => LeaseFrom::Ready,
            Duty::Quarantine => LeaseFrom::Quarantine,
        },
        prefetch: match assignment.duty {
            Duty::Ordinary => assignment.slots * settings.worker_prefetch_multiplier,
            // What is leased ahead would not run alone.
            Duty::Quarantine => 1,
        },
        settle_batch: settings.worker_settle_batch,
        poll: Duration::from_millis(settings.worker_poll_ms),
    }
}

fn runner(ctx: &Context, held: &Arc<Held>, recorder: Arc<Recorder>, progress: Arc<Board>, handlers: &Handle) -> Result<Runner> {
    let settings = ctx.settings();
    let limit = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
    let limits = Limits {
        soft: limit(settings.worker_soft_time_limit_s),
        hard: limit(settings.worker_time_limit_s),
        cancel_grace: Duration::from_secs(settings.worker_grace_s),
        result_bytes: settings.max_payload_bytes.0,
    };
    let _inside = handlers.enter();
    Ok(Runner { ctx: ctx.for_handlers()?, registry: Registry::new(settings.profile), held: Arc::clone(held), limits, recorder, progress })
}

/// Returns when a child that is there for suspects has had none for a while; never for others.
async fn idle(duty: Duty, held: Arc<Held>) {
    if duty == Duty::Ordinary {
        return std::future::pending().await;
    }
    let mut ticks = interval(IDLE_FOR / 10);
    let mut n_idle = 0;
    while n_idle < 10 {
        ticks.tick().await;
        n_idle = if held.is_empty() { n_idle + 1 } else { 0 };
    }
}

/// Keeps the black box true, beside the attempts that write it.
fn spawn_tidying(ctx: &Context, recorder: &Arc<Recorder>) -> AbortOnDropHandle<()> {
    let (ctx, recorder) = (ctx.clone(), Arc::clone(recorder));
    let grace = Duration::from_secs(ctx.settings().worker_grace_s);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = interval(TIDY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            recorder.tidy(ctx.clock.now(), grace);
        }
    }))
}

/// The queues to consume: those that `WORKER_QUEUES` names, else all but those kept for remote workers.
fn discover(ctx: &Context, tasks: &mut Vec<AbortOnDropHandle<()>>) -> (watch::Receiver<Vec<QueueName>>, Arc<Notify>) {
    let unknown_queue = Arc::new(Notify::new());
    let named: Vec<QueueName> = ctx.settings().worker_queues.iter().filter_map(|name| QueueName::new(name).ok()).collect();
    let (names, consumed) = watch::channel(named.clone());
    if !named.is_empty() {
        return (consumed, unknown_queue);
    }
    let (rows, mut discovered) = watch::channel(Vec::<QueueRow>::new());
    let (ctx, refresh) = (ctx.clone(), Arc::clone(&unknown_queue));
    tasks.push(AbortOnDropHandle::new(tokio::spawn(async move { discovery::discover(&ctx, &rows, &refresh).await })));
    tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
        while discovered.changed().await.is_ok() {
            let ours = discovered.borrow_and_update().iter().filter(|row| !row.is_remote).map(|row| row.name.clone()).collect();
            names.send_replace(ours);
        }
    })));
    (consumed, unknown_queue)
}

fn spawn_doorbell(ctx: &Context, bell: &Arc<Bell>, held: &Arc<Held>) -> AbortOnDropHandle<()> {
    let (ctx, bell, held) = (ctx.clone(), Arc::clone(bell), Arc::clone(held));
    AbortOnDropHandle::new(tokio::spawn(async move { doorbell::listen(&ctx, &bell, Some(&held)).await }))
}

fn spawn_timekeeping(ctx: &Context) -> AbortOnDropHandle<()> {
    let ctx = ctx.clone();
    AbortOnDropHandle::new(tokio::spawn(async move { timekeeping::follow(&ctx).await }))
}

fn spawn_heartbeat(ctx: &Context, held: &Arc<Held>) -> AbortOnDropHandle<()> {
    let (ctx, held) = (ctx.clone(), Arc::clone(held));
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = heartbeat::beat(&ctx, &held).await {
            tracing::error!(%error, "leases cannot be kept alive");
        }
    }))
}

fn spawn_progress(ctx: &Context, progress: &Arc<Board>, held: &Arc<Held>) -> AbortOnDropHandle<()> {
    let (ctx, progress, held) = (ctx.clone(), Arc::clone(progress), Arc::clone(held));
    AbortOnDropHandle::new(tokio::spawn(async move { progress.publish(&ctx, &held).await }))
}

fn spawn_leaser(leaser: Leaser) -> watch::Receiver<bool> {
    let (done, settled) = watch::channel(false);
    tokio::spawn(async move {
        leaser.run().await;
        done.send_replace(true);
    });
    settled
}

/// The apalis worker: a slot per concurrent attempt, each attempt a task of its own.
fn spawn_worker(backend: EngineBackend, runner: Arc<Runner>, assignment: &Assignment, handlers: &Handle) -> JoinHandle<()> {
    let worker = WorkerBuilder::new(format!("child-{}", assignment.index))
        .backend(backend)
        .concurrency(assignment.slots)
        .parallelize(tokio::spawn)
        .build(Attempts { runner });
    handlers.spawn(async move {
        if let Err(error) = worker.run().await {
            tracing::error!(%error, "the worker ended by itself");
        }
    })
}

/// The innermost service: one call, one attempt. It never fails; what went wrong is in the end it returns.
#[derive(Debug, Clone)]
struct Attempts {
    runner: Arc<Runner>,
}

impl tower::Service<Task<Arc<LeasedJob>>> for Attempts {
    type Response = End;
    type Error = Infallible;
    type Future = Attempt;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Arc<LeasedJob>>) -> Self::Future {
        let runner = Arc::clone(&self.runner);
        Attempt(Box::pin(async move { runner.run(task.args).await }))
    }
}

/// A type of our own around the boxed future: the compiler cannot see past the lifetime of a bare one inside `spawn`.
struct Attempt(Pin<Box<dyn Future<Output = End> + Send>>);

impl Future for Attempt {
    type Output = Result<End, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}
