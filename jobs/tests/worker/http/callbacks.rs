//! Receivers that answer 202 and say later what became of the job.

use super::{
    receiver::{Receiver, Reply},
    result,
};
use crate::{
    events::{heard, heard_until, subscribe},
    world::World,
};
use serde_json::{Value, json};
use shared::{
    Code, Error,
    endpoints::{Endpoint, callbacks},
    ids::JobId,
    jobs::{Job, JobState, cancel, delete},
    testing::RedisServer,
};

impl World {
    async fn park(&self, endpoint: &Endpoint, more: Value) -> JobId {
        let mut body = json!({"target": {"type": "http", "endpoint_id": endpoint.settings.id, "callback_ttl_s": 600}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.deliver(endpoint, body).await
    }

    async fn call_back(&self, token: &str, said: Value) -> Result<Job, Error> {
        callbacks::settle(&self.ctx, token, serde_json::from_value(said).unwrap()).await
    }
}

async fn taking() -> Receiver {
    Receiver::start(|_| Reply::status(202, "", "")).await
}

impl Receiver {
    /// The token of the newest delivery.
    fn token(&self) -> String {
        let seen = self.seen();
        let url = seen.last().expect("something was delivered").header("webhook-callback");
        url.strip_prefix("https://api.example.org/base/api/v1/callbacks/").expect("it is the API's").to_owned()
    }
}

async fn world() -> World {
    World::with(&[("PUBLIC_URL", "https://api.example.org/base/")]).await
}

#[tokio::test]
async fn a_job_waits_for_its_receiver_and_is_settled_once() {
    let (world, receiver) = (world().await, taking().await);
    let endpoint = world.endpoint(&receiver.url).await;
    let id = world.park(&endpoint, json!({"delay_ms": 200})).await;
    let (_link, mut deliveries) = subscribe(&world, id).await;
    let _worker = world.worker(&[]);
    let waiting = world.until(id, JobState::Waiting).await;
    assert_eq!((waiting.attempt, waiting.error), (1, None));
    heard_until(&mut deliveries, &["waiting"]).await;
    let token = receiver.token();
    let kept: Vec<Vec<u8>> = sqlx::query_scalar("SELECT token_hash FROM callbacks").fetch_all(&world.ctx.pg).await.unwrap();
    assert!(kept.len() == 1 && !kept[0].windows(8).any(|part| token.as_bytes().starts_with(part)), "the token itself is not kept");
    let malformed = world.call_back(&token, json!({"outcome": "fail"})).await.unwrap_err();
    assert_eq!(malformed.code, Code::ValidationFailed, "and the token is good still");
    let job = world.call_back(&token, json!({"outcome": "ok", "result": {"width": 640}})).await.unwrap();
    assert_eq!((job.state, job.attempt, job.worker_id.as_deref()), (JobState::Succeeded, 1, Some("callback")));
    assert_eq!(result(&job), json!({"width": 640}));
    assert_eq!(world.call_back(&token, json!({"outcome": "ok"})).await.unwrap_err().code, Code::NotFound, "it is good once");
    let events: Vec<Value> = heard(deliveries).await.iter().map(|event| event["event"].clone()).collect();
    assert_eq!(events, ["succeeded"]);
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_failure_is_tried_again_with_a_token_of_its_own() {
    let (world, receiver) = (world().await, taking().await);
    let endpoint = world.endpoint(&receiver.url).await;
    let _worker = world.worker(&[]);
    let id = world.park(&endpoint, json!({"retry": {"max_attempts": 2, "base_ms": 1, "max_ms": 1}})).await;
    world.until(id, JobState::Waiting).await;
    let first = receiver.token();
    let error = json!({"code": "no_film", "message": "the camera is empty"});
    world.call_back(&first, json!({"outcome": "fail", "error": error})).await.unwrap();
    let again = world.until_job(id, "parked again", |job| job.state == JobState::Waiting && job.attempt == 2).await;
    assert_eq!(again.error.map(|error| error.code).as_deref(), Some("no_film"));
    assert_ne!(receiver.token(), first);
    assert_eq!(world.call_back(&first, json!({"outcome": "ok"})).await.unwrap_err().code, Code::NotFound);
    world.call_back(&receiver.token(), json!({"outcome": "fail", "error": error})).await.unwrap();
    assert_eq!(world.died_of(id).await, "no_film");
    assert_eq!(world.failed_attempts(id).await, ["failed", "failed"]);
}

#[tokio::test]
async fn who_does_not_call_back_in_time_has_failed() {
    let (world, receiver) = (world().await, taking().await);
    let endpoint = world.endpoint(&receiver.url).await;
    let _worker = world.worker(&[]);
    let target = json!({"type": "http", "endpoint_id": endpoint.settings.id, "callback_ttl_s": 1});
    let id = world.deliver(&endpoint, json!({"target": target, "retry": {"max_attempts": 2, "base_ms": 1, "max_ms": 1}})).await;
    assert_eq!(world.died_of(id).await, "callback_expired");
    assert_eq!(world.failed_attempts(id).await, ["failed", "failed"]);
    assert_eq!(receiver.seen().len(), 2);
    assert_eq!(world.call_back(&receiver.token(), json!({"outcome": "ok"})).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn a_wait_outlives_the_worker_and_redis() {
    let redis = RedisServer::start().await;
    let (world, receiver) = (World::with_redis(&redis).await, taking().await);
    let endpoint = world.endpoint(&receiver.url).await;
    let worker = world.worker(&[]);
    let id = world.park(&endpoint, json!({})).await;
    world.until(id, JobState::Waiting).await;
    worker.signal(nix::sys::signal::Signal::SIGKILL);
    worker.ended().await;
    world.empty_redis().await;
    let _next = world.worker(&[]);
    let echo = world.echo().await;
    world.until(echo, JobState::Succeeded).await;
    assert_eq!(world.job(id).await.state, JobState::Waiting);
    let seen = receiver.seen();
    let token = seen[0].header("webhook-callback").rsplit('/').next().unwrap();
    world.call_back(token, json!({"outcome": "ok"})).await.unwrap();
    assert_eq!((world.job(id).await.state, receiver.seen().len()), (JobState::Succeeded, 1));
}

#[tokio::test]
async fn who_calls_back_before_having_answered_has_the_last_word() {
    let (world, receiver) = (world().await, Receiver::start(|_| Reply::Hang).await);
    let endpoint = world.endpoint(&receiver.url).await;
    let _worker = world.worker(&[]);
    let target = json!({"type": "http", "endpoint_id": endpoint.settings.id, "callback_ttl_s": 600, "timeout_ms": 2_000});
    let id = world.deliver(&endpoint, json!({"target": target, "retry": {"max_attempts": 5, "base_ms": 1, "max_ms": 1}})).await;
    receiver.was_reached(1).await;
    let job = world.call_back(&receiver.token(), json!({"outcome": "ok", "result": 7})).await.unwrap();
    assert_eq!((job.state, result(&job)), (JobState::Succeeded, json!(7)));
    // The delivery that hangs is given up in the end, and changes nothing.
    world.active(0).await;
    assert_eq!((world.job(id).await.state, receiver.seen().len()), (JobState::Succeeded, 1));
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_and_deleted_as_any_other() {
    let (world, receiver) = (world().await, taking().await);
    let endpoint = world.endpoint(&receiver.url).await;
    let _worker = world.worker(&[]);
    let cancelled = world.park(&endpoint, json!({})).await;
    world.until(cancelled, JobState::Waiting).await;
    let token = receiver.token();
    assert!(matches!(cancel::cancel(&world.ctx, &world.caller, cancelled).await.unwrap(), cancel::Cancelled::Done(_)));
    assert_eq!(world.job(cancelled).await.state, JobState::Cancelled);
    assert_eq!(world.call_back(&token, json!({"outcome": "ok"})).await.unwrap_err().code, Code::NotFound);
    let deleted = world.park(&endpoint, json!({})).await;
    world.until(deleted, JobState::Waiting).await;
    // The worker that parked it has it for a moment longer.
    while let Err(error) = delete::delete(&world.ctx, &world.caller, deleted).await {
        assert_eq!(error.code, Code::JobRunning);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(world.call_back(&receiver.token(), json!({"outcome": "ok"})).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn any_other_answer_ends_the_delivery_and_its_token() {
    let (world, receiver) = (world().await, Receiver::start(|n| Reply::status(if n == 0 { 200 } else { 500 }, "", "")).await);
    let endpoint = world.endpoint(&receiver.url).await;
    let _worker = world.worker(&[]);
    let id = world.park(&endpoint, json!({})).await;
    world.until(id, JobState::Succeeded).await;
    assert_eq!(world.call_back(&receiver.token(), json!({"outcome": "ok"})).await.unwrap_err().code, Code::NotFound);
    let id = world.park(&endpoint, json!({})).await;
    assert_eq!(world.died_of(id).await, "http_500");
    assert_eq!(world.call_back(&receiver.token(), json!({"outcome": "ok"})).await.unwrap_err().code, Code::NotFound);
    // And without leave to call back, 202 is a success as any 2xx.
    let plain = taking().await;
    let id = world.submit(json!({"kind": "http.request", "target": {"type": "http", "url": plain.url}})).await;
    assert_eq!(result(&world.until(id, JobState::Succeeded).await)["status"], 202);
    assert!(!plain.seen()[0].head.contains("webhook-callback"));
}

#[tokio::test]
async fn of_many_who_call_back_at_once_one_settles() {
    let (world, receiver) = (world().await, taking().await);
    let endpoint = world.endpoint(&receiver.url).await;
    let _worker = world.worker(&[]);
    let id = world.park(&endpoint, json!({})).await;
    world.until(id, JobState::Waiting).await;
    let token = receiver.token();
    let calls = (0..8).map(|n| world.call_back(&token, json!({"outcome": "ok", "result": n})));
    let answers = futures_util::future::join_all(calls).await;
    let settled: Vec<Job> = answers.into_iter().filter_map(Result::ok).collect();
    assert_eq!(settled.len(), 1);
    assert_eq!(result(&world.job(id).await), result(&settled[0]));
}
