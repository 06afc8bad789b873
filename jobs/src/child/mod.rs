//! One child process: it leases, runs and settles, around one apalis worker. It ends when its supervisor says so, and when
//! its supervisor is gone.

mod ingest;
mod maintaining;
mod memory;
mod orders;
mod reporting;
pub(crate) mod stopping;
mod tenure;
mod voice;
mod worker;

use crate::{
    attempt::{self, Runner},
    black_box::Recorder,
    link::News,
    registry::Registry,
    slots::Slots,
};
use orders::Orders;
use shared::{
    Context, Error, Result,
    capacity::pools::OfWorker,
    config::Settings,
    ids::WorkerId,
    jobs::{
        QueueName,
        backend::EngineBackend,
        engine::{
            Nonce,
            allowance::Allowance,
            doorbell::{self, Bell},
            heartbeat,
            held::Held,
            leaser::{Leaser, Mode, Wiring, Wishes},
            progress::Board,
            scripts::{Holder, LeaseFrom},
            timekeeping,
        },
    },
    telemetry::{self, logs::LogLevel, pulse, traces},
    vital::{steadily, vital},
};
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use stopping::Stopper;
use tenure::Tenure;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use voice::{Ear, Voice};

/// How long a child without suspects stays for the next one.
const IDLE_FOR: Duration = Duration::from_secs(3);
/// The supervisor takes a record for a running attempt so long after it ended, at most.
const TIDY_EVERY: Duration = Duration::from_millis(250);
/// What a child that is done within moments can do without (hearing rings, looking at the clock) begins so long after its start. One that
/// has to wait for its turn has it by then.
const SETTLES_IN: Duration = Duration::from_millis(150);
/// A name that rings and has no row would otherwise ask again and again.
const UNKNOWN_PAUSE: Duration = Duration::from_millis(20);

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
    /// Jobs after which it is replaced; 0 = never.
    pub max_tasks: u64,
    /// What the worker's processes may have open to PostgreSQL.
    pub pools: OfWorker,
    /// What the supervisor corrects its clock by, as it found out from Redis.
    pub clock_correction_ms: i64,
}

impl Assignment {
    /// Connections of the child itself, without those of its handlers.
    pub fn connections(&self) -> u32 {
        match self.duty {
            Duty::Ordinary | Duty::Quarantine => self.pools.engine,
            Duty::Maintenance => self.pools.maintenance,
        }
    }

    fn prefetch_multiplier(&self, settings: &Settings) -> usize {
        match self.duty {
            Duty::Ordinary | Duty::Maintenance => settings.worker_prefetch_multiplier,
            // What is leased ahead would not run alone.
            Duty::Quarantine => 1,
        }
    }
}

/// What a child is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    Ordinary,
    /// Runs suspects of a crash, one at a time and nothing beside; ends when there have been none for a while.
    Quarantine,
    /// Runs no jobs: it does, or stands by to do, what one process does for all.
    Maintenance,
}

/// Runs until it is told to stop or has been replaced; attempts run on `handlers`, everything else where this is called.
pub async fn run(ctx: Context, assignment: Assignment, handlers: Handle, log_level: LogLevel) -> Result<ExitCode> {
    let recorder = telemetry::metrics::install_tally();
    let (voice, ear) = voice::connect(&ctx.settings(), recorder.clone(), log_level)?;
    ctx.clock.correct(assignment.clock_correction_ms);
    if assignment.duty == Duty::Maintenance {
        return maintaining::run(ctx, &assignment, &voice, ear).await;
    }
    let _handing_on = traces::are_on().then(|| {
        let voice = voice.clone();
        spawn(async move { steadily("spans", || voice.keep_telling_spans()).await })
    });
    let held = Arc::new(Held::default());
    let code = work(&ctx, &assignment, &handlers, &held, &voice, ear).await?;
    voice.bid_farewell(held.counts(), &recorder).await;
    Ok(code)
}

async fn work(ctx: &Context, assignment: &Assignment, handlers: &Handle, held: &Arc<Held>, voice: &Voice, ear: Ear) -> Result<ExitCode> {
    let orders = Orders::listen(ear.wish.clone(), ear.supervisor_gone)?;
    let recorder = Arc::new(Recorder::open(&assignment.black_box).map_err(Error::internal)?);
    let give_up = CancellationToken::new();
    let mode = watch::Sender::new(Mode::Lease);
    let (slots, allowance) = (Arc::new(Slots::new(0)), Arc::new(Allowance::new(0)));
    let (bell, unknown_queue, progress) = (Arc::new(Bell::default()), Arc::new(Notify::new()), Arc::new(Board::default()));
    let report = reporting::Reporter::spawn(ctx, assignment, held, ear.wish.clone());
    let tasks = [
        spawn_timekeeping(ctx),
        spawn_doorbell(ctx, &bell, held),
        spawn_heartbeat(ctx, held)?,
        spawn_tidying(ctx, &recorder),
        spawn_progress(ctx, &progress, held),
        spawn_asking(voice, &unknown_queue),
        spawn_closing(&slots, mode.subscribe()),
    ];
    let wishes = wishes(&ctx.settings(), assignment);
    let (jobs_tx, jobs) = mpsc::channel(wishes.prefetch);
    let (ended, ended_rx) = mpsc::channel(wishes.prefetch);
    let wiring = Wiring {
        jobs: Some(jobs_tx),
        ended: ended_rx,
        queues: queues(&ctx.settings(), ear.queues),
        mode: mode.subscribe(),
        bell,
        unknown_queue,
        held: Arc::clone(held),
        allowance: Arc::clone(&allowance),
        relay: Some(ear.dictation),
        give_up: give_up.clone(),
    };
    let settled = spawn_leaser(Leaser::new(ctx.clone(), wishes, wiring)?);
    let backend = EngineBackend::new(jobs, ended, mode.clone(), settled);
    let handling = {
        let _inside = handlers.enter();
        ctx.for_handlers(assignment.pools.handlers)?
    };
    let runner = Arc::new(runner(handling, held, recorder, progress, &slots));
    let pulses = spawn_pulses(ctx, &runner, handlers);
    let worker = worker::spawn(backend, runner, assignment, handlers);
    let is_going = Arc::new(AtomicBool::new(false));
    let tenure = Tenure {
        limits: tenure::Limits::new(&ctx.settings(), assignment),
        wish: ear.wish,
        slots,
        allowance,
        held: Arc::clone(held),
        mode: mode.clone(),
        voice: voice.clone(),
        is_going: Arc::clone(&is_going),
    };
    let _serving = spawn(vital("tenure", tenure.serve()));
    let idle = idle(assignment.duty, Arc::clone(held));
    let code = Stopper::new(ctx, mode, Arc::clone(held), give_up, is_going).run(orders, worker, idle).await;
    drop((tasks, pulses));
    report.retire().await;
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
            Duty::Ordinary | Duty::Maintenance => LeaseFrom::Ready,
            Duty::Quarantine => LeaseFrom::Quarantine,
        },
        prefetch: assignment.slots * assignment.prefetch_multiplier(settings),
        settle_batch: settings.worker_settle_batch,
        writers: assignment.pools.writers as usize,
        poll: Duration::from_millis(settings.worker_poll_ms),
    }
}

fn runner(ctx: Context, held: &Arc<Held>, recorder: Arc<Recorder>, progress: Arc<Board>, slots: &Arc<Slots>) -> Runner {
    let settings = ctx.settings();
    let limit = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
    let limits = attempt::Limits {
        soft: limit(settings.worker_soft_time_limit_s),
        hard: limit(settings.worker_time_limit_s),
        cancel_grace: Duration::from_secs(settings.worker_grace_s),
        result_bytes: settings.max_payload_bytes.0,
    };
    let registry = Registry::new(settings.profile);
    drop(settings);
    Runner { ctx, registry, held: Arc::clone(held), limits, recorder, progress, slots: Arc::clone(slots) }
}

/// Returns when a child that is there for suspects has had none for a while; never for others.
async fn idle(duty: Duty, held: Arc<Held>) {
    if duty != Duty::Quarantine {
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
    spawn(async move { steadily("tidying the black box", || tidy(&ctx, &recorder, grace)).await })
}

async fn tidy(ctx: &Context, recorder: &Recorder, grace: Duration) {
    let mut ticks = interval(TIDY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        recorder.tidy(ctx.clock.now(), grace);
    }
}

/// The queues to consume: those that `WORKER_QUEUES` names, else those that the supervisor tells.
fn queues(settings: &Settings, told: watch::Receiver<Vec<QueueName>>) -> watch::Receiver<Vec<QueueName>> {
    let named: Vec<QueueName> = settings.worker_queues.iter().filter_map(|name| QueueName::new(name).ok()).collect();
    if named.is_empty() { told } else { watch::Sender::new(named).subscribe() }
}

fn spawn_asking(voice: &Voice, unknown_queue: &Arc<Notify>) -> AbortOnDropHandle<()> {
    let (voice, unknown_queue) = (voice.clone(), Arc::clone(unknown_queue));
    spawn(async move { steadily("asking for queues", || ask(&voice, &unknown_queue)).await })
}

async fn ask(voice: &Voice, unknown_queue: &Notify) {
    loop {
        unknown_queue.notified().await;
        voice.tell(&News::UnknownQueue).await;
        sleep(UNKNOWN_PAUSE).await;
    }
}

/// Nobody waits for a slot once what has not started is handed back.
fn spawn_closing(slots: &Arc<Slots>, mut mode: watch::Receiver<Mode>) -> AbortOnDropHandle<()> {
    let slots = Arc::clone(slots);
    let close = async move {
        if mode.wait_for(|mode| *mode >= Mode::Drain).await.is_ok() {
            slots.close();
        }
    };
    spawn(vital("closing of slots", close))
}

fn spawn_doorbell(ctx: &Context, bell: &Arc<Bell>, held: &Arc<Held>) -> AbortOnDropHandle<()> {
    let (ctx, bell, held) = (ctx.clone(), Arc::clone(bell), Arc::clone(held));
    spawn(async move {
        sleep(SETTLES_IN).await;
        steadily("doorbell", || doorbell::listen(&ctx, &bell, Some(&held))).await;
    })
}

fn spawn_timekeeping(ctx: &Context) -> AbortOnDropHandle<()> {
    let ctx = ctx.clone();
    spawn(async move {
        sleep(SETTLES_IN).await;
        steadily("timekeeping", || timekeeping::follow(&ctx)).await;
    })
}

/// How the child's own threads feel, and those that run its jobs; each asks over connections of its own.
fn spawn_pulses(ctx: &Context, runner: &Arc<Runner>, handlers: &Handle) -> [AbortOnDropHandle<()>; 2] {
    let feel = |ctx: Context, thread| async move {
        sleep(SETTLES_IN).await;
        steadily("pulse", || pulse::keep(&ctx, thread)).await;
    };
    let own = tokio::spawn(feel(ctx.clone(), "jobs-engine"));
    [own, handlers.spawn(feel(runner.ctx.clone(), "jobs-handler"))].map(AbortOnDropHandle::new)
}

fn spawn_heartbeat(ctx: &Context, held: &Arc<Held>) -> Result<AbortOnDropHandle<()>> {
    let (ctx, held) = (ctx.clone(), Arc::clone(held));
    let connection = ctx.redis.own_connection(&ctx.settings())?;
    Ok(spawn(vital("heartbeat", async move { heartbeat::beat(&ctx, connection, &held).await })))
}

fn spawn_progress(ctx: &Context, progress: &Arc<Board>, held: &Arc<Held>) -> AbortOnDropHandle<()> {
    let (ctx, progress, held) = (ctx.clone(), Arc::clone(progress), Arc::clone(held));
    spawn(async move { steadily("progress", || progress.publish(&ctx, &held)).await })
}

fn spawn_leaser(leaser: Leaser) -> watch::Receiver<bool> {
    let (done, settled) = watch::channel(false);
    tokio::spawn(async move {
        leaser.run().await;
        done.send_replace(true);
    });
    settled
}

/// Every task of a child says what its panic means: what goes on without it is begun anew, and without what is vital the child ends, so that
/// its supervisor sees to what it held.
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}
