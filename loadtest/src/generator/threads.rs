//! Runs a plan: starts the threads, connects everything, lets all begin together, and adds up
//! what they recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::plan::{Plan, Window};
use super::recorder::Recorder;
use super::worker::{Connected, Recorded, Worker};

/// How often the observer hears of the run.
const TICK: Duration = Duration::from_millis(100);
/// From "all are connected" to the first request, so that every thread is waiting for it.
const LAUNCH_DELAY: Duration = Duration::from_millis(5);

/// What a run measured.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) recorder: Recorder,
    /// Requests the schedule had for the measured time; None in the closed loop.
    pub(crate) offered: Option<u64>,
    /// Time to make all connections.
    pub(crate) connect_time: Duration,
    /// Connections that could not be made before the run.
    pub(crate) unconnected: u32,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("no connection to {peer}: {reason}")]
    NoConnection { peer: std::net::SocketAddr, reason: String },
    #[error("cannot start the load threads: {0}")]
    Threads(#[from] std::io::Error),
    #[error("a load thread ended unexpectedly")]
    ThreadLost,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Progress {
    /// All are connected, and send.
    WarmingUp,
    /// The warm-up is over.
    Measuring {
        answered: u64,
    },
    Running {
        elapsed: Duration,
        answered: u64,
    },
    /// The measured time is over; answers may still be awaited.
    Ended,
}

struct Crew {
    launches: Vec<oneshot::Sender<Window>>,
    threads: Vec<std::thread::JoinHandle<std::io::Result<Recorded>>>,
    answered: Vec<Arc<AtomicU64>>,
    connected: Receiver<Connected>,
    /// Never carries a message: it ends when the last thread has.
    running: Receiver<()>,
}

/// Runs `plan` on threads of its own, telling `observe` how far it is from the calling one.
pub(crate) fn run(plan: &Arc<Plan>, observe: &mut dyn FnMut(Progress)) -> Result<Load, LoadError> {
    connect(plan)?.launch(Instant::now() + LAUNCH_DELAY, observe)
}

/// All connections of a plan, made and idle.
pub(crate) struct Standing {
    crew: Crew,
    warmup: Duration,
    duration: Duration,
    pub(crate) connect_time: Duration,
    /// Connections that could not be made.
    pub(crate) unconnected: u32,
}

/// Makes the connections of `plan`, and sends nothing yet.
pub(crate) fn connect(plan: &Arc<Plan>) -> Result<Standing, LoadError> {
    let begun = Instant::now();
    let crew = start_crew(plan)?;
    let unconnected = wait_until_connected(plan, &crew.connected)?;
    Ok(Standing { crew, warmup: plan.warmup, duration: plan.duration, connect_time: begun.elapsed(), unconnected })
}

impl Standing {
    /// Sends from `launch` on, until the plan is done.
    pub(crate) fn launch(self, launch: Instant, observe: &mut dyn FnMut(Progress)) -> Result<Load, LoadError> {
        let crew = self.crew;
        let start = launch + self.warmup;
        let window = Window { launch, start, end: start + self.duration };
        for launcher in crew.launches {
            launcher.send(window).map_err(|_| LoadError::ThreadLost)?;
        }
        observe(Progress::WarmingUp);
        watch(&crew.running, &crew.answered, window, observe);
        let mut load =
            Load { recorder: Recorder::new(window), offered: None, connect_time: self.connect_time, unconnected: self.unconnected };
        for thread in crew.threads {
            let recorded = thread.join().map_err(|_| LoadError::ThreadLost)??;
            load.recorder.absorb(recorded.recorder);
            load.offered = recorded.offered.map(|n_more| load.offered.unwrap_or(0) + n_more);
        }
        Ok(load)
    }
}

fn start_crew(plan: &Arc<Plan>) -> Result<Crew, LoadError> {
    let n_threads = plan.threads.min(plan.connections);
    let (connected_tx, connected) = sync_channel(n_threads as usize);
    let (running_tx, running) = sync_channel(1);
    let mut crew = Crew { launches: Vec::new(), threads: Vec::new(), answered: Vec::new(), connected, running };
    for thread_idx in 0..n_threads {
        let (launcher, launch) = oneshot::channel();
        let answered = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            thread_idx,
            n_threads,
            plan: Arc::clone(plan),
            answered: Arc::clone(&answered),
            connected: connected_tx.clone(),
            launch,
        };
        let running_tx = running_tx.clone();
        let thread = std::thread::Builder::new().name(format!("load-{thread_idx}")).spawn(move || {
            let _running = running_tx;
            worker.run()
        })?;
        crew.launches.push(launcher);
        crew.threads.push(thread);
        crew.answered.push(answered);
    }
    Ok(crew)
}

fn wait_until_connected(plan: &Plan, connected: &Receiver<Connected>) -> Result<u32, LoadError> {
    let mut n_failed = 0;
    let mut reason = None;
    for _ in 0..plan.threads.min(plan.connections) {
        let report = connected.recv().map_err(|_| LoadError::ThreadLost)?;
        n_failed += report.n_failed;
        reason = reason.or(report.first_failure);
    }
    match reason {
        Some(reason) if n_failed == plan.connections => Err(LoadError::NoConnection { peer: plan.peer, reason }),
        Some(_) | None => Ok(n_failed),
    }
}

fn watch(running: &Receiver<()>, answered: &[Arc<AtomicU64>], window: Window, observe: &mut dyn FnMut(Progress)) {
    let n_answered = || answered.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    if wait_until(running, window.start) {
        observe(Progress::Measuring { answered: n_answered() });
    }
    let mut next_tick = window.start + TICK;
    while next_tick < window.end && wait_until(running, next_tick) {
        observe(Progress::Running { elapsed: window.start.elapsed(), answered: n_answered() });
        next_tick += TICK;
    }
    wait_until(running, window.end);
    observe(Progress::Ended);
}

/// Waits for `at`; false when the threads have ended before.
fn wait_until(running: &Receiver<()>, at: Instant) -> bool {
    let pause = at.saturating_duration_since(Instant::now());
    match running.recv_timeout(pause) {
        Err(RecvTimeoutError::Timeout) => true,
        Ok(()) | Err(RecvTimeoutError::Disconnected) => false,
    }
}
