//! `http.request` by a real worker, against receivers that are not always what they should be.

mod callbacks;
mod moved;
pub(crate) mod receiver;

use crate::world::World;
use receiver::{Receiver, Reply};
use serde_json::{Value, json};
use shared::{
    accounts,
    endpoints::{
        Endpoint, EndpointState,
        input::{NewEndpoint, PatchEndpoint},
        manage,
    },
    ids::JobId,
    jobs::{Job, JobState, SubmitJob, new_job::Origin, submit},
    outbound::{
        breaker::BreakerState,
        signature::{Secret, sign},
    },
};

impl World {
    pub(super) async fn endpoint(&self, url: &str) -> Endpoint {
        let user =
            "INSERT INTO users (id, email, password_hash, role, created_at, updated_at) VALUES ($1, 'a@b.org', '', 'user', now(), now())";
        sqlx::query(user).bind(self.caller.user_id.0).execute(&self.ctx.pg).await.unwrap();
        let new: NewEndpoint = serde_json::from_value(json!({"name": "orders", "url": url, "headers": {"x-shop": "7"}})).unwrap();
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let checked = manage::check(&self.ctx, &self.caller, &new).await.unwrap();
        let endpoint = manage::create(&self.ctx, &mut tx, &self.caller, checked, &accounts::Origin::default()).await.unwrap();
        tx.commit().await.unwrap();
        endpoint
    }

    pub(super) async fn deliver(&self, endpoint: &Endpoint, more: Value) -> JobId {
        let mut body = json!({"kind": "http.request", "payload": {"order": 7}, "retry": {"max_attempts": 1}});
        body["target"] = json!({"type": "http", "endpoint_id": endpoint.settings.id});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.submit(body).await
    }

    async fn look(&self, endpoint: &Endpoint) -> Endpoint {
        manage::get(&self.ctx, &self.caller, endpoint.settings.id).await.unwrap()
    }

    /// The code of the error that the job died of.
    pub(super) async fn died_of(&self, id: JobId) -> String {
        self.until(id, JobState::Dead).await.error.unwrap().code
    }
}

pub(super) fn result(job: &Job) -> Value {
    serde_json::from_str(job.result.as_ref().unwrap().get()).unwrap()
}

#[tokio::test]
async fn a_job_is_delivered_as_it_is_and_signed_by_every_secret_that_is_good() {
    let (world, receiver) = (World::new().await, Receiver::start(|_| Reply::status(200, "", "thanks")).await);
    let _worker = world.worker(&[]);
    let endpoint = world.endpoint(&receiver.url).await;
    let rotated = manage::rotate(&world.ctx, &world.caller, endpoint.settings.id, &accounts::Origin::default()).await.unwrap();
    assert_ne!(rotated.secret, endpoint.secret);
    let id = world.deliver(&endpoint, json!({})).await;
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!((&result(&job)["status"], &result(&job)["body_excerpt"]), (&json!(200), &json!("thanks")));
    let seen = receiver.seen();
    assert_eq!((seen.len(), seen[0].body.as_str(), seen[0].header("x-shop")), (1, r#"{"order":7}"#, "7"));
    assert!(seen[0].head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{}", seen[0].head);
    assert_eq!((seen[0].header("webhook-id"), seen[0].header("content-type")), (id.to_string().as_str(), "application/json"));
    let secrets: (Vec<u8>, Vec<u8>) =
        sqlx::query_as("SELECT secret, previous_secret FROM endpoints").fetch_one(&world.ctx.pg).await.unwrap();
    let secrets = [Secret::from_bytes(secrets.0), Secret::from_bytes(secrets.1)];
    assert_eq!([rotated.secret.unwrap(), endpoint.secret.unwrap()], secrets.clone().map(|secret| secret.text()));
    let timestamp_s = seen[0].header("webhook-timestamp").parse().unwrap();
    let expected = sign(&secrets, &id.to_string(), timestamp_s, seen[0].body.as_bytes()).unwrap();
    assert_eq!(seen[0].header("webhook-signature"), expected);
}

#[tokio::test]
async fn only_2xx_is_success_and_nothing_that_a_receiver_does_is_without_end() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let elsewhere = Receiver::start(|_| Reply::status(200, "", "")).await;
    let location = format!("location: {}\r\n", elsewhere.url);
    let (redirect, flood, hang, cut) = tokio::join!(
        Receiver::start(move |_| Reply::status(302, &location, "")),
        Receiver::start(|_| Reply::Flood),
        Receiver::start(|_| Reply::Hang),
        Receiver::start(|_| Reply::Cut),
    );
    let url = async |url: &str| {
        let target = json!({"type": "http", "url": url, "method": "PUT", "timeout_ms": 1_000});
        world.submit(json!({"kind": "http.request", "target": target, "retry": {"max_attempts": 1}})).await
    };
    let jobs =
        (url(&redirect.url).await, url(&hang.url).await, url(&cut.url).await, url(&flood.url).await, url("http://127.0.0.1:1/").await);
    assert_eq!(world.died_of(jobs.0).await, "http_302");
    assert!(elsewhere.seen().is_empty(), "a redirect is not followed");
    assert_eq!(world.died_of(jobs.1).await, "http_timeout");
    assert_eq!(world.died_of(jobs.2).await, "http_broken");
    assert_eq!(world.died_of(jobs.4).await, "http_connect");
    let flooded = world.until(jobs.3, JobState::Succeeded).await;
    assert_eq!(result(&flooded)["body_excerpt"].as_str().unwrap().len(), 2_048);
    assert!(flood.seen()[0].head.starts_with("PUT ") && !flood.seen()[0].head.contains("webhook-signature"), "nobody's secret");
}

#[tokio::test]
async fn retry_after_is_heeded_410_disables_and_a_pause_costs_nothing() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let busy = Receiver::start(|n| if n == 0 { Reply::status(429, "retry-after: 1\r\n", "") } else { Reply::status(204, "", "") }).await;
    let endpoint = world.endpoint(&busy.url).await;
    let id = world.deliver(&endpoint, json!({"retry": {"max_attempts": 2, "base_ms": 600_000, "max_ms": 600_000}})).await;
    world.until(id, JobState::Succeeded).await;
    assert_eq!(world.failed_attempts(id).await, ["failed"]);

    let gone = Receiver::start(|_| Reply::status(410, "", "")).await;
    let patch: PatchEndpoint = serde_json::from_value(json!({"url": gone.url})).unwrap();
    manage::update(&world.ctx, &world.caller, endpoint.settings.id, &patch, |_| Ok(()), &accounts::Origin::default()).await.unwrap();
    let id = world.deliver(&endpoint, json!({"retry": {"max_attempts": 9}})).await;
    assert_eq!(world.died_of(id).await, "http_410");
    assert_eq!(world.look(&endpoint).await.settings.state, EndpointState::Disabled);
    let again = json!({"kind": "http.request", "target": {"type": "http", "endpoint_id": endpoint.settings.id}});
    let again: SubmitJob = serde_json::from_value(again).unwrap();
    let refused = submit::prepare(&world.ctx, &world.caller, again, Origin::default()).await.unwrap_err();
    assert_eq!(refused.fields[0].code, "disabled");

    manage::pause(&world.ctx, &world.caller, endpoint.settings.id, &accounts::Origin::default()).await.unwrap();
    let id = world.deliver(&endpoint, json!({})).await;
    let waiting = world.until(id, JobState::Scheduled).await;
    assert_eq!((waiting.error, world.failures(id).await, gone.seen().len()), (None, 0, 1));
    manage::delete(&world.ctx, &world.caller, endpoint.settings.id, &accounts::Origin::default()).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_active_again_gets_at_once_what_waits_for_it() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let receiver = Receiver::start(|_| Reply::status(204, "", "")).await;
    let endpoint = world.endpoint(&receiver.url).await;
    manage::pause(&world.ctx, &world.caller, endpoint.settings.id, &accounts::Origin::default()).await.unwrap();
    let (waiting, later) = (world.deliver(&endpoint, json!({})).await, world.deliver(&endpoint, json!({"delay_ms": 600_000})).await);
    world.until_job(waiting, "postponed", |job| job.state == JobState::Scheduled && job.attempt > 0).await;
    manage::resume(&world.ctx, &world.caller, endpoint.settings.id, &accounts::Origin::default()).await.unwrap();
    let sent = tokio::time::timeout(std::time::Duration::from_secs(20), world.until(waiting, JobState::Succeeded));
    sent.await.expect("it does not wait for the half minute that it said it would");
    assert_eq!(receiver.seen().len(), 1, "what is to be sent later waits");
    world.until(later, JobState::Scheduled).await;
}

#[tokio::test]
async fn a_receiver_that_fails_is_left_alone_and_waiting_for_it_spends_no_attempt() {
    let world = World::new().await;
    let is_well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = std::sync::Arc::clone(&is_well);
    let answers =
        move |_| if told.load(std::sync::atomic::Ordering::Relaxed) { Reply::status(200, "", "") } else { Reply::status(500, "", "") };
    let receiver = Receiver::start(answers).await;
    let endpoint = world.endpoint(&receiver.url).await;
    let worker = world.worker(&[("WORKER_CONCURRENCY", "1")]);
    for _ in 0..5 {
        let id = world.deliver(&endpoint, json!({})).await;
        assert_eq!(world.died_of(id).await, "http_500");
    }
    let open = world.look(&endpoint).await.breaker;
    assert_eq!((open.state, open.failures, receiver.seen().len()), (BreakerState::Open, 5, 5));
    let waiting = world.deliver(&endpoint, json!({})).await;
    let job = world.until_job(waiting, "postponed", |job| job.state == JobState::Scheduled && job.attempt > 0).await;
    assert_eq!((job.error, world.failures(waiting).await), (None, 0));
    is_well.store(true, std::sync::atomic::Ordering::Relaxed);
    world.until(waiting, JobState::Succeeded).await;
    assert_eq!((world.failures(waiting).await, world.look(&endpoint).await.breaker.state), (0, BreakerState::Closed));
    drop(worker);
}

#[tokio::test]
async fn an_endpoint_is_delivered_to_no_faster_than_it_wants_and_waiting_spends_no_attempt() {
    let (world, receiver) = (World::new().await, Receiver::start(|_| Reply::status(200, "", "")).await);
    let endpoint = world.endpoint(&receiver.url).await;
    let patch: PatchEndpoint = serde_json::from_value(json!({"max_rate": 2.0})).unwrap();
    manage::update(&world.ctx, &world.caller, endpoint.settings.id, &patch, |_| Ok(()), &accounts::Origin::default()).await.unwrap();
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(world.deliver(&endpoint, json!({})).await);
    }
    let _worker = world.worker(&[]);
    let mut n_put_off = 0;
    for id in jobs {
        let job = world.until(id, JobState::Succeeded).await;
        assert_eq!(world.failures(id).await, 0);
        n_put_off += usize::from(job.attempt > 1);
    }
    // By the receiver's clock: half a second between each two, all but the pauses on the way there.
    let seen = receiver.seen();
    let took = seen[3].at - seen[0].at;
    assert!(n_put_off == 3 && took > std::time::Duration::from_millis(1_200), "{n_put_off} were put off, and it took {took:?}");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_found_out_when_it_is_dialled() {
    let (world, receiver) = (World::new().await, Receiver::start(|_| Reply::status(200, "", "")).await);
    let _worker = world.worker(&[("OUTBOUND_ALLOW", "")]);
    let url = receiver.url.replace("127.0.0.1", "localhost");
    let target = json!({"type": "http", "url": url});
    let id = world.submit(json!({"kind": "http.request", "target": target, "retry": {"max_attempts": 1}})).await;
    assert_eq!(world.died_of(id).await, "address_not_allowed");
    assert!(receiver.seen().is_empty());
}
