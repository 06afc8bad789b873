//! Every way an attempt can end, without any server.

use super::*;
use serde_json::value::RawValue;
use shared::{
    ids::{JobId, UserId},
    jobs::{
        JobKind, QueueName, RetryPolicy,
        engine::{Nonce, QueueKeys, Standing, Token, held::Signals},
    },
    keys::Keys,
};
use std::future::{pending, ready};
use time::OffsetDateTime;

const NO_LIMITS: Limits = Limits { soft: None, hard: None, cancel_grace: Duration::from_secs(60), result_bytes: 1_000 };
const SHORT: Duration = Duration::from_millis(20);

pub(crate) fn job() -> LeasedJob {
    LeasedJob {
        token: Token { job_id: JobId::new(), attempt: 1, nonce: Nonce::new() },
        keys: Arc::new(QueueKeys::new(&Keys::new("t"), &QueueName::default())),
        kind: JobKind::new("debug.echo").unwrap(),
        owner_id: UserId::new(),
        standing: Standing { priority: 4, attempt: 1, failures: 0, snoozes: 0, returns: 0, crashes: 0 },
        payload: RawValue::from_string("{}".to_owned()).unwrap(),
        run_at: OffsetDateTime::UNIX_EPOCH,
        expires_at: None,
        timeout: None,
        retry: RetryPolicy::DEFAULT,
        request_id: None,
        traceparent: None,
        record: None,
        signals: Arc::new(Signals::default()),
    }
}

fn fails() -> Outcome {
    Outcome::retry("boom", "it broke")
}

#[tokio::test]
async fn what_the_handler_returns_is_the_outcome() {
    let end = supervise(ready(fails()), &job(), NO_LIMITS).await;
    assert!(matches!(end, End::Outcome(Outcome::Retry { .. })), "{end:?}");
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_with_its_message() {
    let end = supervise(async { panic!("no such luck: {}", 7) }, &job(), NO_LIMITS).await;
    assert!(matches!(&end, End::Outcome(Outcome::Panic(message)) if message == "no such luck: 7"), "{end:?}");
}

#[tokio::test]
async fn the_jobs_own_timeout_ends_it_before_the_workers() {
    let mut job = job();
    job.timeout = Some(SHORT);
    let limits = Limits { hard: Some(Duration::from_secs(60)), ..NO_LIMITS };
    let end = supervise(pending(), &job, limits).await;
    assert!(matches!(end, End::Outcome(Outcome::Timeout { limit }) if limit == SHORT), "{end:?}");
}

#[tokio::test]
async fn the_soft_limit_asks_and_a_handler_that_stops_for_it_timed_out() {
    let job = job();
    let signals = Arc::clone(&job.signals);
    let handler = async move {
        signals.soft.cancelled().await;
        Outcome::Cancelled
    };
    let end = supervise(handler, &job, Limits { soft: Some(SHORT), ..NO_LIMITS }).await;
    assert!(matches!(end, End::Outcome(Outcome::Timeout { .. })), "{end:?}");
}

#[tokio::test]
async fn a_handler_that_stops_unasked_failed() {
    let end = supervise(ready(Outcome::Cancelled), &job(), NO_LIMITS).await;
    assert!(matches!(end, End::Outcome(Outcome::Retry { .. })), "{end:?}");
}

#[tokio::test]
async fn a_handler_may_finish_although_it_is_asked_to_stop() {
    let job = job();
    let signals = Arc::clone(&job.signals);
    let handler = async move {
        signals.soft.cancelled().await;
        fails()
    };
    let end = supervise(handler, &job, Limits { soft: Some(SHORT), ..NO_LIMITS }).await;
    assert!(matches!(end, End::Outcome(Outcome::Retry { .. })), "{end:?}");
}

#[tokio::test]
async fn a_handler_that_ignores_its_cancel_is_stopped_after_the_grace() {
    let job = job();
    job.signals.ask(StopReason::Cancelled);
    let end = supervise(pending(), &job, Limits { cancel_grace: SHORT, ..NO_LIMITS }).await;
    assert!(matches!(end, End::Outcome(Outcome::Cancelled)), "{end:?}");
}

#[tokio::test]
async fn an_attempt_that_is_made_to_stop_leaves_no_outcome() {
    for reason in [StopReason::LeaseLost, StopReason::WorkerStops] {
        let job = job();
        job.signals.end(reason);
        let end = supervise(pending(), &job, NO_LIMITS).await;
        assert!(matches!(end, End::Abandoned), "{end:?}");
        let end = supervise(ready(Outcome::Cancelled), &job, NO_LIMITS).await;
        assert!(matches!(end, End::Abandoned), "stopping early for it is the same: {end:?}");
    }
}
