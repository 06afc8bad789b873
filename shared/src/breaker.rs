//! Circuit breakers of one process for the servers it cannot do without: while one is away, what needs it fails at once and does not
//! wait for it. Those for hosts outside, which all processes share, are in [`crate::outbound::breaker`].
//!
//! Closed → open when [`FAILURES_MAX`] probes in a row failed within [`WINDOW`], and nobody else got an answer meanwhile → half open
//! once a probe was answered → closed when the next one is too, or open on. Probes are made by the process itself ([`Breaker::watch`]), so no request is spent on finding out, and a
//! pool without a free connection is no reason to open. A server that refuses and has never answered is away at once. Requests that found the server away bring the next probe forward; what a server
//! answers, refusals and broken constraints among it, is no failure.

use crate::{
    Result,
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
        Self(Arc::new(Inner {
            target,
            state: AtomicU8::new(State::Closed as u8),
            was_well: AtomicBool::new(false),
            answers: AtomicBool::new(false),
            is_open: watch::Sender::new(false),
            finding: watch::Sender::new(None),
            doubted: Notify::new(),
            gauge,
            opened: metrics::counter!(BREAKER_OPENED, "target" => target),
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
    pub async fn watch<F: Future<Output = Result<()>>>(self, patience: Duration, probe: impl Fn() -> F) {
        let mut failures = Failures::default();
        loop {
            let begun = Instant::now();
            self.0.answers.store(false, Ordering::Relaxed);
            let (outcome, failure) = match timeout(patience, probe()).await {
                Ok(Ok(())) => (Outcome::Answer, None),
                Ok(Err(error)) => (Outcome::Refusal, Some(error.detail.into_owned())),
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
            // Slow, and there.
            Outcome::Silence if !self.is_open() && self.0.answers.load(Ordering::Relaxed) => *failures = Failures::default(),
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
mod tests {
    use super::*;
    use crate::{Code, Error};
    use std::sync::atomic::{AtomicBool, AtomicU32};

    /// A server that answers, or does not, as told; and how often it was probed.
    #[derive(Debug, Default)]
    struct Server {
        is_away: AtomicBool,
        n_probes: AtomicU32,
    }

    fn watched() -> (Breaker, Arc<Server>) {
        let (breaker, server) = (Breaker::new("test"), Arc::new(Server::default()));
        let probed = Arc::clone(&server);
        tokio::spawn(breaker.clone().watch(Duration::from_millis(200), move || {
            let server = Arc::clone(&probed);
            async move {
                server.n_probes.fetch_add(1, Ordering::SeqCst);
                let is_away = server.is_away.load(Ordering::SeqCst);
                if is_away { Err(Error::new(Code::DatabaseUnavailable, "away")) } else { Ok(()) }
            }
        }));
        (breaker, server)
    }

    async fn until_closed(breaker: &Breaker) {
        while breaker.is_open() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn it_opens_after_failures_in_a_row_and_closes_when_a_probe_succeeds() {
        let (breaker, server) = watched();
        assert_eq!(breaker.finding(Duration::from_secs(1)).await.and_then(|finding| finding.failure), None);
        assert_eq!(breaker.state(), State::Closed);
        server.is_away.store(true, Ordering::SeqCst);
        breaker.opened().await;
        assert!(breaker.is_open());
        assert_eq!(breaker.finding(Duration::from_secs(1)).await.and_then(|finding| finding.failure).as_deref(), Some("away"));
        server.is_away.store(false, Ordering::SeqCst);
        until_closed(&breaker).await;
        assert_eq!(breaker.state(), State::Closed);
    }

    #[tokio::test]
    async fn one_failure_opens_nothing() {
        let (breaker, server) = watched();
        breaker.finding(Duration::from_secs(1)).await;
        server.is_away.store(true, Ordering::SeqCst);
        while server.n_probes.load(Ordering::SeqCst) < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        server.is_away.store(false, Ordering::SeqCst);
        while server.n_probes.load(Ordering::SeqCst) < 4 {
            assert!(!breaker.is_open());
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn who_finds_the_server_away_brings_the_probe_forward_and_a_crowd_does_not_multiply_it() {
        let (breaker, server) = watched();
        breaker.finding(Duration::from_secs(1)).await;
        let begun = Instant::now();
        while server.n_probes.load(Ordering::SeqCst) < 4 {
            breaker.doubt();
            sleep(Duration::from_millis(1)).await;
        }
        // However many complain, and however slow the machine is, there is a pause between two.
        assert!(begun.elapsed() >= DOUBT_EVERY * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_server_that_refuses_and_never_answered_is_away_at_once_and_one_that_is_silent_is_not_yet() {
        let (refusing, silent) = (Breaker::new("test"), Breaker::new("test"));
        let refuse = || async { Err(Error::new(Code::DatabaseUnavailable, "away")) };
        tokio::spawn(refusing.clone().watch(Duration::from_millis(200), refuse));
        tokio::spawn(silent.clone().watch(Duration::from_millis(200), std::future::pending::<Result<()>>));
        refusing.finding(Duration::from_secs(5)).await;
        assert!(refusing.is_open() && !refusing.is_well());
        let finding = silent.finding(Duration::from_secs(5)).await.and_then(|finding| finding.failure);
        assert_eq!((finding.as_deref(), silent.is_well()), (Some("no answer within 200 ms"), false));
        silent.opened().await;
    }

    #[tokio::test]
    async fn a_server_that_answers_others_is_slow_and_not_away() {
        let (breaker, server) = (Breaker::new("test"), Arc::new(Server::default()));
        let probed = Arc::clone(&server);
        tokio::spawn(breaker.clone().watch(Duration::from_millis(100), move || {
            probed.n_probes.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<Result<()>>()
        }));
        while server.n_probes.load(Ordering::SeqCst) < FAILURES_MAX * 2 {
            breaker.answered();
            sleep(Duration::from_millis(1)).await;
            assert!(!breaker.is_open());
        }
    }

    #[test]
    fn failures_far_apart_do_not_count_together() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        assert_eq!(failures.one_more(now), 1);
        assert_eq!(failures.one_more(now + WINDOW * 2), 1);
        assert_eq!(failures.one_more(now + WINDOW * 2 + WINDOW / 2), 2);
    }
}
