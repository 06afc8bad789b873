//! Circuit breakers of one process for the servers it cannot do without: while one is away, what needs it fails at once and does not
//! wait for it. Those for hosts outside, which all processes share, are in [`crate::outbound::breaker`].
//!
//! Closed → open when [`FAILURES_MAX`] probes in a row failed within [`WINDOW`], and nobody else got an answer meanwhile → half open
//! once a probe was answered → closed when the next one is too, or open on. Probes are made by the process itself ([`Breaker::watch`]), so
//! no request is spent on finding out, and a pool without a free connection is no reason to open; nor is a server that has no connection
//! left for the probe. A server that refuses and has never answered is away at once. Requests that found the server away bring the next
//! probe forward; what a server answers, refusals and broken constraints among it, is no failure.

use crate::{
    Error,
    telemetry::metrics::{BREAKER_OPENED, BREAKER_STATE},
};
use metrics::{Counter, Gauge};
use serde::Serialize;
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use utoipa::ToSchema;

/// Probes in a row that must fail: one may have met a server, or a machine, that was busy.
const FAILURES_MAX: u32 = 3;
/// Failures that are further apart do not count together.
const WINDOW: Duration = Duration::from_secs(5);
/// Between probes while all is well and nobody complains.
const CALM_EVERY: Duration = Duration::from_secs(1);
/// Between probes while there is doubt, and while it is open: so much later than the server, at most, requests are back.
const DOUBT_EVERY: Duration = Duration::from_millis(100);

/// How a breaker stands, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Requests go through.
    Closed = 0,
    /// The server has answered once since.
    HalfOpen = 1,
    /// What needs the server fails at once.
    Open = 2,
}

/// What the last probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub took: Duration,
    /// Why it failed, in words that a caller may see; `None` if all is well.
    pub failure: Option<String>,
}

/// Why a probe has no answer to show.
#[derive(Debug)]
pub enum Miss {
    /// The server, or the way to it, refuses.
    Refusal(Error),
    /// Nothing came in time.
    Silence(Error),
    /// It is there, and has no room for one more. Whoever has a connection goes on.
    Busy(Error),
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Self::Refusal(error)
    }
}

/// Cheap to clone; clones are one breaker.
#[derive(Debug, Clone)]
pub struct Breaker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    target: &'static str,
    state: AtomicU8,
    /// Whether the server has ever answered.
    was_well: AtomicBool,
    /// Answers that others got since the last look.
    answers: AtomicBool,
    is_open: watch::Sender<bool>,
    finding: watch::Sender<Option<Finding>>,
    doubted: Notify,
    gauge: Gauge,
    opened: Counter,
}

impl Breaker {
    /// A closed one. It stays so unless somebody runs [`watch`](Self::watch).
    pub fn new(target: &'static str) -> Self {
        let gauge = metrics::gauge!(BREAKER_STATE, "target" => target);
        gauge.set(0.0);
        Self::shown_by(target, gauge, metrics::counter!(BREAKER_OPENED, "target" => target))
    }

    /// One that lets everything pass for good, and that no metric shows.
    pub fn never() -> Self {
        Self::shown_by("nothing", Gauge::noop(), Counter::noop())
    }

    fn shown_by(target: &'static str, gauge: Gauge, opened: Counter) -> Self {
        Self(Arc::new(Inner {
            target,
            state: AtomicU8::new(State::Closed as u8),
            was_well: AtomicBool::new(false),
            answers: AtomicBool::new(false),
            is_open: watch::Sender::new(false),
            finding: watch::Sender::new(None),
            doubted: Notify::new(),
            gauge,
            opened,
        }))
    }

    pub fn state(&self) -> State {
        match self.0.state.load(Ordering::Acquire) {
            0 => State::Closed,
            1 => State::HalfOpen,
            _ => State::Open,
        }
    }

    /// Whether what needs the server should fail at once.
    pub fn is_open(&self) -> bool {
        self.0.state.load(Ordering::Acquire) != State::Closed as u8
    }

    /// Whether the server is there, as far as is known: it has answered, and not stopped to.
    pub fn is_well(&self) -> bool {
        !self.is_open() && self.0.was_well.load(Ordering::Acquire)
    }

    /// Returns when it opens; at once if it is open.
    pub async fn opened(&self) {
        let mut is_open = self.0.is_open.subscribe();
        // The sender lives as long as this breaker.
        let _ = is_open.wait_for(|is_open| *is_open).await;
    }

    /// What `work` comes to; `None` while the server is away, and when it goes away before that is done. Work that was begun may have
    /// been carried out all the same.
    pub async fn unless_open<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if self.is_open() {
            return None;
        }
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.opened() => None,
        }
    }

    /// The same for what may be known without the server: that is had at once, however the breaker stands.
    pub async fn at_once_or_unless_open<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.opened() => None,
        }
    }

    /// Somebody got an answer of the server: it is not away, however slow it may be.
    pub fn answered(&self) {
        // Looked at first: a line that all threads write to would travel between them with every request.
        if !self.0.answers.load(Ordering::Relaxed) {
            self.0.answers.store(true, Ordering::Relaxed);
        }
    }

    /// Somebody found the server away.
    pub fn doubt(&self) {
        self.0.doubted.notify_one();
    }

    /// What the last probe found, once there was one: waits for the first, up to `patience`.
    pub async fn finding(&self, patience: Duration) -> Option<Finding> {
        let mut finding = self.0.finding.subscribe();
        let known = timeout(patience, finding.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.clone()
    }

    /// Probes the server for as long as the process lives, each time for `patience` at most.
    pub async fn watch<F: Future<Output = Result<(), Miss>>>(self, patience: Duration, probe: impl Fn() -> F) {
        let mut failures = Failures::default();
        loop {
            let begun = Instant::now();
            self.0.answers.store(false, Ordering::Relaxed);
            let (outcome, failure) = match timeout(patience, probe()).await {
                Ok(Ok(())) => (Outcome::Answer, None),
                Ok(Err(Miss::Refusal(error))) => (Outcome::Refusal, Some(error.detail.into_owned())),
                Ok(Err(Miss::Silence(error))) => (Outcome::Silence, Some(error.detail.into_owned())),
                Ok(Err(Miss::Busy(error))) => (Outcome::Busy, Some(error.detail.into_owned())),
                Err(_) => (Outcome::Silence, Some(format!("no answer within {} ms", patience.as_millis()))),
            };
            self.conclude(&mut failures, outcome);
            self.0.finding.send_replace(Some(Finding { took: begun.elapsed(), failure }));
            if self.state() == State::HalfOpen {
                continue;
            }
            if failures.in_a_row > 0 || self.is_open() {
                sleep(DOUBT_EVERY).await;
                continue;
            }
            // Whoever finds it away now is heard; but not more often than this.
            drop(timeout(CALM_EVERY, self.0.doubted.notified()).await);
            sleep(DOUBT_EVERY.saturating_sub(begun.elapsed())).await;
        }
    }

    fn conclude(&self, failures: &mut Failures, outcome: Outcome) {
        match outcome {
            Outcome::Answer => {
                *failures = Failures::default();
                self.0.was_well.store(true, Ordering::Release);
                self.set(if self.state() == State::Open { State::HalfOpen } else { State::Closed });
            }
            Outcome::Busy => *failures = Failures::default(),
            // Slow, or of no use to the probe, and there.
            Outcome::Silence | Outcome::Refusal if !self.is_open() && self.0.answers.load(Ordering::Relaxed) => {
                *failures = Failures::default()
            }
            Outcome::Silence | Outcome::Refusal => {
                let is_new = outcome == Outcome::Refusal && !self.0.was_well.load(Ordering::Acquire);
                if failures.one_more(Instant::now()) >= FAILURES_MAX || is_new || self.is_open() {
                    self.set(State::Open);
                }
            }
        }
    }

    fn set(&self, state: State) {
        let before = self.0.state.swap(state as u8, Ordering::AcqRel);
        if before == state as u8 {
            return;
        }
        self.0.gauge.set(f64::from(state as u8));
        let target = self.0.target;
        match state {
            State::Closed => tracing::info!(target, "the server answers again"),
            State::Open if before == State::Closed as u8 => {
                self.0.opened.increment(1);
                tracing::error!(target, "the server is away: what needs it fails at once, until it answers");
            }
            State::HalfOpen | State::Open => {}
        }
        self.0.is_open.send_replace(state != State::Closed);
    }
}

/// What a probe came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answer,
    Refusal,
    Silence,
    Busy,
}

/// Failures in a row, near each other.
#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    last: Option<Instant>,
}

impl Failures {
    fn one_more(&mut self, now: Instant) -> u32 {
        let is_near = self.last.is_some_and(|last| now.saturating_duration_since(last) <= WINDOW);
        self.in_a_row = if is_near { self.in_a_row + 1 } else { 1 };
        self.last = Some(now);
        self.in_a_row
    }
}

#[cfg(test)]
mod tests;
