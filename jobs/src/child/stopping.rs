//! How a child stops. Warm: hand back what has not started, let the rest finish for the grace, ask it to stop, end it,
//! settle everything. Cold: end everything now, settle what has ended.

use super::orders::{Order, Orders};
use shared::{
    Context,
    config::Settings,
    jobs::engine::{held::Held, leaser::Mode},
};
use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Between asking what still runs after the grace to stop, and ending it.
const LAST_CALL: Duration = Duration::from_secs(1);
/// Settling after the last attempt has ended, at least.
const SETTLE: Duration = Duration::from_secs(5);
/// Settling in a cold stop.
const COLD_SETTLE: Duration = Duration::from_secs(2);
/// From giving up on the servers to leaving whatever still runs (a handler that blocks its thread).
const LEAVE: Duration = Duration::from_millis(500);

/// From leaving to the end of the process: its report is taken off the list, its threads are left behind.
const DEPART: Duration = Duration::from_secs(2);

/// Exit code of a child that has made room for its successor.
pub(crate) const REPLACED: u8 = 155;

/// Longest that a child takes to end after a warm stop was ordered. One that takes longer does not run at all.
pub(crate) fn warm_within(settings: &Settings) -> Duration {
    patience(settings) + LEAVE + DEPART
}

/// The same for a cold stop.
pub(crate) const COLD_WITHIN: Duration = COLD_SETTLE.saturating_add(LEAVE).saturating_add(DEPART);

fn patience(settings: &Settings) -> Duration {
    let grace = Duration::from_secs(settings.worker_grace_s);
    Duration::from_secs(settings.shutdown_timeout_s).max(grace + LAST_CALL + SETTLE)
}

/// Carries orders out. Each deadline is absent until its turn.
#[derive(Debug)]
pub(super) struct Stopper {
    mode: watch::Sender<Mode>,
    held: Arc<Held>,
    give_up: CancellationToken,
    grace: Duration,
    patience: Duration,
    is_stopping: bool,
    is_going: Arc<AtomicBool>,
    ask_at: Option<Instant>,
    end_at: Option<Instant>,
    give_up_at: Option<Instant>,
    leave_at: Option<Instant>,
}

impl Stopper {
    /// `is_going` tells that the child is about to end because it was replaced.
    pub(super) fn new(
        ctx: &Context,
        mode: watch::Sender<Mode>,
        held: Arc<Held>,
        give_up: CancellationToken,
        is_going: Arc<AtomicBool>,
    ) -> Self {
        let settings = ctx.settings();
        let (grace, patience) = (Duration::from_secs(settings.worker_grace_s), patience(&settings));
        let (ask_at, end_at, give_up_at, leave_at) = (None, None, None, None);
        Self { mode, held, give_up, grace, patience, is_stopping: false, is_going, ask_at, end_at, give_up_at, leave_at }
    }

    /// Returns when the worker has ended with everything settled, or cannot in time.
    pub(super) async fn run(mut self, mut orders: Orders, mut worker: JoinHandle<()>, idle: impl Future<Output = ()>) -> ExitCode {
        tokio::pin!(idle);
        loop {
            tokio::select! {
                _ = &mut worker => return self.ended(),
                order = orders.next() => self.obey(order),
                () = &mut idle, if !self.is_stopping => self.obey(Order::Warm),
                () = at(self.ask_at) => {
                    self.ask_at = None;
                    self.held.ask_all();
                }
                () = at(self.end_at) => {
                    // Again and again: an attempt may have started since.
                    self.end_at = Some(Instant::now() + Duration::from_millis(100));
                    self.held.end_all();
                }
                () = at(self.give_up_at) => {
                    self.give_up_at = None;
                    tracing::warn!("giving up on what is not settled; it runs again when its lease expires");
                    self.give_up.cancel();
                    self.leave_at = Some(Instant::now() + LEAVE);
                }
                () = at(self.leave_at) => return ExitCode::FAILURE,
            }
        }
    }

    fn ended(&self) -> ExitCode {
        match (self.is_stopping, self.is_going.load(Ordering::Relaxed)) {
            (true, _) => ExitCode::SUCCESS,
            (false, true) => ExitCode::from(REPLACED),
            (false, false) => ExitCode::FAILURE,
        }
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Quiet => self.raise(Mode::Quiet),
            Order::Resume => {
                self.mode.send_if_modified(|mode| *mode == Mode::Quiet && std::mem::replace(mode, Mode::Lease) == Mode::Quiet);
            }
            Order::Warm if !self.is_stopping => {
                tracing::info!(grace_s = self.grace.as_secs(), "stopping: what runs may finish");
                self.raise(Mode::Drain);
                self.ask_at = Some(now + self.grace);
                self.end_at = Some(now + self.grace + LAST_CALL);
                self.give_up_at = Some(now + self.patience);
            }
            Order::Warm | Order::Cold => {
                tracing::info!("stopping at once: what runs is handed back");
                self.raise(Mode::Drain);
                self.end_at = Some(now);
                self.give_up_at = Some(now + COLD_SETTLE);
            }
        }
        self.is_stopping |= matches!(order, Order::Warm | Order::Cold);
    }

    /// Modes only go forward, but for the way out of [`Mode::Quiet`].
    fn raise(&self, to: Mode) {
        self.mode.send_if_modified(|mode| {
            let is_forward = to > *mode;
            *mode = to.max(*mode);
            is_forward
        });
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
