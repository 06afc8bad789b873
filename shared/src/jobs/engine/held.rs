//! The deliveries this process holds: shared by the task that leases, the heartbeat, and the attempts themselves.
//!
//! One mutex around one map, held for a few instructions at a time and never across an await.

use super::{Standing, scripts::QueueKeys, token::Token, volatile::Record};
use crate::{
    ids::{JobId, UserId},
    jobs::{JobKind, Progress, RetryPolicy},
};
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A delivery on its way to a handler. The payload is the bytes that were submitted; only the handler parses them.
#[derive(Debug)]
pub struct LeasedJob {
    pub token: Token,
    pub keys: Arc<QueueKeys>,
    pub kind: JobKind,
    pub owner_id: UserId,
    pub standing: Standing,
    pub payload: Box<RawValue>,
    pub run_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    pub timeout: Option<Duration>,
    pub retry: RetryPolicy,
    pub request_id: Option<String>,
    pub traceparent: Option<String>,
    /// Of a job that has no row until it ends.
    pub record: Option<Arc<Record>>,
    pub signals: Arc<Signals>,
}

impl LeasedJob {
    pub fn id(&self) -> JobId {
        self.token.job_id
    }
}

/// Why an attempt is asked, or made, to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Its cancel was asked for.
    Cancelled,
    /// Its lease is gone: nothing it does counts any more.
    LeaseLost,
    /// The worker stops and cannot wait for it.
    WorkerStops,
}

/// How an attempt hears that it should end.
#[derive(Debug, Default)]
pub struct Signals {
    /// Asks: the handler may finish or stop early as it sees fit.
    pub soft: CancellationToken,
    /// Ends: the handler is dropped where it stands.
    pub hard: CancellationToken,
    reason: OnceLock<StopReason>,
    /// What the attempt last said of how far it is.
    progress: Mutex<Option<Progress>>,
}

impl Signals {
    /// The first reason stays.
    pub fn ask(&self, reason: StopReason) {
        self.reason.get_or_init(|| reason);
        self.soft.cancel();
    }

    pub fn end(&self, reason: StopReason) {
        self.ask(reason);
        self.hard.cancel();
    }

    pub(super) fn set_progress(&self, progress: Progress) {
        *self.progress.lock().expect("nothing panics while it holds this lock") = Some(progress);
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        self.progress.lock().expect("nothing panics while it holds this lock").clone()
    }

    pub fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Leased, and waits for a slot.
    Reserved,
    Running {
        since: OffsetDateTime,
    },
    /// Over, and waits for its outcome to be marked.
    Ended,
    /// Its outcome is being written.
    Settling,
}

#[derive(Debug, Clone)]
pub(super) struct Delivered {
    pub(super) token: Token,
    pub(super) keys: Arc<QueueKeys>,
    pub(super) kind: JobKind,
    pub(super) standing: Standing,
    pub(super) run_at: OffsetDateTime,
    pub(super) phase: Phase,
    pub(super) signals: Arc<Signals>,
}

impl Delivered {
    pub(super) fn started_at(&self) -> Option<OffsetDateTime> {
        match self.phase {
            Phase::Running { since } => Some(since),
            Phase::Reserved | Phase::Ended | Phase::Settling => None,
        }
    }
}

/// An attempt that has begun.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) token: Token,
    pub(super) keys: Arc<QueueKeys>,
    pub(super) kind: JobKind,
    /// From due to started.
    pub(super) pickup: Duration,
    /// Whether it is under way still, so that Redis must hear of it.
    pub(super) is_running: bool,
}

/// One delivery as reports show it.
#[derive(Debug, Clone)]
pub struct HeldView {
    pub job_id: JobId,
    pub kind: JobKind,
    pub attempt: i32,
    /// When it started; `None` while it waits for a slot.
    pub since: Option<OffsetDateTime>,
    pub progress: Option<Progress>,
}

#[derive(Debug, Default)]
struct Inner {
    deliveries: HashMap<JobId, Delivered>,
    /// Started since they were last reported to Redis.
    started: Vec<Started>,
    n_settling: usize,
}

#[derive(Debug, Default)]
pub struct Held {
    inner: Mutex<Inner>,
    /// Wakes the leasing task when an attempt starts.
    pub(super) attempt_started: Notify,
    /// Has the heartbeat ask now: a cancel may have been missed.
    pub(super) look: Notify,
    n_done: AtomicU64,
    n_failed: AtomicU64,
    /// Rung by deliveries that end, from `ring_from` finished ones on; 0 is by each, and by those that are given up as well.
    ring_from: AtomicU64,
    is_watched: AtomicBool,
    has_ended: Notify,
}

/// How many deliveries are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Leased, and wait for a slot.
    pub n_reserved: u64,
    pub n_running: u64,
    /// Ended in this process since it started, well or badly.
    pub n_finished: u64,
}

impl Tally {
    pub fn n_unfinished(self) -> u64 {
        self.n_reserved + self.n_running
    }
}

impl Held {
    /// Has [`Held::rung`] return for each delivery that ends from now on, once `n_finished` have.
    pub fn ring_from(&self, n_finished: u64) {
        self.ring_from.store(n_finished, Ordering::Relaxed);
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Returns at once if it has rung since the last call. For one task.
    pub async fn rung(&self) {
        self.has_ended.notified().await;
    }

    pub fn tally(&self) -> Tally {
        let (n_done, n_failed) = self.counts();
        let inner = self.lock();
        let (mut n_reserved, mut n_running) = (0, 0);
        for held in inner.deliveries.values() {
            match held.phase {
                Phase::Reserved => n_reserved += 1,
                Phase::Running { .. } => n_running += 1,
                Phase::Ended | Phase::Settling => {}
            }
        }
        Tally { n_reserved, n_running, n_finished: n_done + n_failed }
    }

    fn ring(&self, n_finished: u64) {
        if self.is_watched.load(Ordering::Relaxed) && n_finished >= self.ring_from.load(Ordering::Relaxed) {
            self.has_ended.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }

    pub(super) fn insert(&self, delivered: Delivered) {
        let mut inner = self.lock();
        let replaced = inner.deliveries.insert(delivered.token.job_id, delivered);
        if replaced.is_some_and(|held| held.phase == Phase::Settling) {
            inner.n_settling -= 1;
        }
    }

    /// Claims a slot's start. `false`: the delivery was handed back or lost meanwhile, and must not run.
    pub fn start(&self, token: Token, now: OffsetDateTime) -> bool {
        let mut inner = self.lock();
        let Some(delivered) = inner.deliveries.get_mut(&token.job_id).filter(|held| held.token == token) else { return false };
        delivered.phase = Phase::Running { since: now };
        let started = Started {
            token,
            keys: Arc::clone(&delivered.keys),
            kind: delivered.kind.clone(),
            pickup: (now - delivered.run_at).try_into().unwrap_or_default(),
            is_running: true,
        };
        inner.started.push(started);
        drop(inner);
        self.attempt_started.notify_one();
        true
    }

    /// Deliveries that count against the prefetch: all but those whose outcome is being written.
    pub(super) fn n_open(&self) -> usize {
        let inner = self.lock();
        inner.deliveries.len() - inner.n_settling
    }

    /// Attempts that started since the last call.
    pub(super) fn take_started(&self) -> Vec<Started> {
        let mut inner = self.lock();
        let mut started = std::mem::take(&mut inner.started);
        for attempt in &mut started {
            let held = inner.deliveries.get(&attempt.token.job_id).filter(|held| held.token == attempt.token);
            attempt.is_running = held.is_some_and(|held| matches!(held.phase, Phase::Running { .. }));
        }
        started
    }

    /// Notes that an attempt is over; returns the delivery as it was before.
    pub(super) fn end(&self, token: Token) -> Option<Delivered> {
        let mut inner = self.lock();
        let held = inner.deliveries.get_mut(&token.job_id).filter(|held| held.token == token)?;
        let before = held.clone();
        held.phase = Phase::Ended;
        Some(before)
    }

    pub(super) fn get(&self, token: Token) -> Option<Delivered> {
        self.lock().deliveries.get(&token.job_id).filter(|held| held.token == token).cloned()
    }

    pub(super) fn holds(&self, token: Token) -> bool {
        self.lock().deliveries.get(&token.job_id).is_some_and(|held| held.token == token)
    }

    pub(super) fn settling(&self, tokens: impl IntoIterator<Item = Token>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        for token in tokens {
            if let Some(delivered) = inner.deliveries.get_mut(&token.job_id).filter(|held| held.token == token)
                && delivered.phase != Phase::Settling
            {
                delivered.phase = Phase::Settling;
                inner.n_settling += 1;
            }
        }
    }

    pub(super) fn remove(&self, token: Token) -> Option<Delivered> {
        self.remove_if(token, |_| true)
    }

    /// The same where it has not started.
    pub(super) fn remove_unstarted(&self, token: Token) -> Option<Delivered> {
        self.remove_if(token, |phase| phase == Phase::Reserved)
    }

    fn remove_if(&self, token: Token, is_wanted: impl FnOnce(Phase) -> bool) -> Option<Delivered> {
        let mut inner = self.lock();
        inner.deliveries.get(&token.job_id).filter(|held| held.token == token && is_wanted(held.phase))?;
        let removed = inner.deliveries.remove(&token.job_id);
        if removed.as_ref().is_some_and(|held| held.phase == Phase::Settling) {
            inner.n_settling -= 1;
        } else {
            self.ring(0);
        }
        removed
    }

    /// Takes out everything that has not started: nobody can start it any more.
    pub(super) fn take_unstarted(&self) -> Vec<Delivered> {
        let mut inner = self.lock();
        let unstarted = inner.deliveries.extract_if(|_, held| held.phase == Phase::Reserved).map(|(_, held)| held).collect();
        self.ring(0);
        unstarted
    }

    /// All leases, by queue, for the heartbeat.
    pub(super) fn tokens_by_queue(&self) -> Vec<(Arc<QueueKeys>, Vec<Token>)> {
        let mut by_queue: HashMap<*const QueueKeys, (Arc<QueueKeys>, Vec<Token>)> = HashMap::new();
        for held in self.lock().deliveries.values() {
            let (_, tokens) = by_queue.entry(Arc::as_ptr(&held.keys)).or_insert_with(|| (Arc::clone(&held.keys), Vec::new()));
            tokens.push(held.token);
        }
        by_queue.into_values().collect()
    }

    /// Gives up deliveries whose lease is gone, and stops their attempts; returns how many were still held.
    pub(super) fn lose(&self, tokens: impl IntoIterator<Item = Token>) -> usize {
        let lost = tokens.into_iter().filter_map(|token| self.remove(token));
        lost.inspect(|held| held.signals.end(StopReason::LeaseLost)).count()
    }

    /// Tells one job's attempt that its cancel was asked for.
    pub(super) fn cancel(&self, job_id: JobId) {
        if let Some(held) = self.lock().deliveries.get(&job_id) {
            held.signals.ask(StopReason::Cancelled);
        }
    }

    pub(super) fn count(&self, is_done: bool) {
        let counter = if is_done { &self.n_done } else { &self.n_failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let (n_done, n_failed) = self.counts();
        self.ring(n_done + n_failed);
    }

    /// Deliveries that succeeded and that ended otherwise, since the process started.
    pub fn counts(&self) -> (u64, u64) {
        (self.n_done.load(Ordering::Relaxed), self.n_failed.load(Ordering::Relaxed))
    }

    /// Asks every running attempt to stop.
    pub fn ask_all(&self) {
        for held in self.lock().deliveries.values() {
            held.signals.ask(StopReason::WorkerStops);
        }
    }

    /// Stops every running attempt.
    pub fn end_all(&self) {
        for held in self.lock().deliveries.values() {
            held.signals.end(StopReason::WorkerStops);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.lock().deliveries.is_empty()
    }

    /// What runs and what waits, for reports.
    pub fn view(&self) -> Vec<HeldView> {
        let inner = self.lock();
        let open = inner.deliveries.values().filter(|held| matches!(held.phase, Phase::Reserved | Phase::Running { .. }));
        let view = open.map(|held| HeldView {
            job_id: held.token.job_id,
            kind: held.kind.clone(),
            attempt: held.token.attempt,
            since: held.started_at(),
            progress: held.signals.progress(),
        });
        view.collect()
    }
}
