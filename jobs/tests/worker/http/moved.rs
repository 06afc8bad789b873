//! Endpoints that are moved to another origin while jobs, schedules and batches have headers for where they led before.

use super::receiver::{Receiver, Reply};
use crate::world::World;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shared::{
    Code, Result, accounts,
    endpoints::{Endpoint, input::PatchEndpoint, manage},
    ids::JobId,
    jobs::{
        JobState,
        batches::{NewBatch, operations as batches},
        bulk,
        new_job::Origin,
        retry,
        unique::Accepted,
    },
    schedules::{NewSchedule, PatchSchedule, Schedule, fire, operations as schedules},
};
use std::time::{Duration, Instant};

/// With a header that is a secret by its name, and one that is not.
fn target(endpoint: &Endpoint) -> Value {
    let headers = json!({"Authorization": "Bearer hunter2", "X-Event": "paid"});
    json!({"type": "http", "endpoint_id": endpoint.settings.id, "headers": headers})
}

async fn receivers() -> (Receiver, Receiver) {
    let answer = |_| Reply::status(200, "", "");
    (Receiver::start(answer).await, Receiver::start(answer).await)
}

impl World {
    async fn move_to(&self, endpoint: &Endpoint, url: &str) {
        let patch: PatchEndpoint = serde_json::from_value(json!({ "url": url })).unwrap();
        let origin = accounts::Origin::default();
        manage::update(&self.ctx, &self.caller, endpoint.settings.id, &patch, |_| Ok(()), &origin).await.unwrap();
    }

    async fn deliver_with_headers(&self, endpoint: &Endpoint) -> JobId {
        self.deliver(endpoint, json!({"target": target(endpoint), "retry": {"max_attempts": 9}})).await
    }

    async fn deliver_in_bulk(&self, endpoint: &Endpoint) -> JobId {
        let submit = serde_json::from_value(json!({"kind": "http.request", "target": target(endpoint)})).unwrap();
        let prepared = bulk::prepare(&self.ctx, &self.caller, vec![Ok(submit)], &Origin::default()).await.unwrap();
        let verdicts = prepared.write(&self.ctx, None).await;
        bulk::announce(&self.ctx, &verdicts).await;
        let [Ok(Accepted::New(job))] = &verdicts[..] else { panic!("{verdicts:?}") };
        job.id
    }

    /// As if a release before had written it, which notes no origin.
    async fn forget_origin(&self, id: JobId) {
        let forget = "UPDATE jobs SET target = (target::jsonb - 'url')::json WHERE id = $1 AND target ->> 'url' IS NOT NULL";
        let done = sqlx::query(forget).bind(id.0).execute(&self.ctx.pg).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    async fn schedule(&self, endpoint: &Endpoint) -> Schedule {
        let new = json!({"name": "s", "kind": "http.request", "cron": "0 0 1 1 *", "job": {"target": target(endpoint)}});
        let new: NewSchedule = serde_json::from_value(new).unwrap();
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let schedule = schedules::create(&self.ctx, &mut tx, &self.caller, new).await.unwrap();
        tx.commit().await.unwrap();
        schedule
    }

    async fn trigger(&self, schedule: &Schedule) -> Result<JobId> {
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let made = fire::trigger(&self.ctx, &mut tx, &self.caller, schedule.id).await?;
        tx.commit().await.unwrap();
        fire::announce(&self.ctx, &made).await;
        Ok(made.job.id)
    }

    async fn set_headers(&self, schedule: &Schedule, endpoint: &Endpoint, headers: Value) -> Result<()> {
        let mut target = target(endpoint);
        target["headers"] = headers;
        let patch: PatchSchedule = serde_json::from_value(json!({"job": {"target": target}})).unwrap();
        schedules::update(&self.ctx, &self.caller, schedule.id, patch, |_| Ok(())).await.map(drop)
    }

    /// The error of a batch whose completion goes to the endpoint, which `meanwhile` is over before the batch is.
    async fn complete(&self, endpoint: &Endpoint, meanwhile: impl Future<Output = ()>) -> Option<String> {
        let on_complete = json!({"kind": "http.request", "target": target(endpoint)});
        let new: NewBatch = serde_json::from_value(json!({ "on_complete": on_complete })).unwrap();
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let made = batches::create(&self.ctx, &mut tx, &self.caller, new, &Origin::default()).await.unwrap();
        tx.commit().await.unwrap();
        batches::announce(&self.ctx, &made).await;
        meanwhile.await;
        let id = made.answer.batch.id;
        batches::close(&self.ctx, &self.caller, id).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let batch = batches::get(&self.ctx, &self.caller, id).await.unwrap();
            if batch.completed_at.is_some() {
                assert_eq!(batch.error.is_none(), batch.completion_job_id.is_some());
                return batch.error.map(|error| error.code);
            }
            assert!(Instant::now() < deadline, "{batch:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn headers_of_a_job_that_are_secrets_go_to_no_other_origin_than_they_were_given_for() {
    let (world, (here, elsewhere)) = (World::new().await, receivers().await);
    let endpoint = world.endpoint(&here.url).await;
    let (one, bulk) = (world.deliver_with_headers(&endpoint).await, world.deliver_in_bulk(&endpoint).await);
    let plain = world.deliver(&endpoint, json!({})).await;
    let mut harmless = target(&endpoint);
    harmless["headers"] = json!({"X-Event": "paid"});
    let harmless = world.deliver(&endpoint, json!({ "target": harmless })).await;
    world.move_to(&endpoint, &elsewhere.url).await;
    let _worker = world.worker(&[]);
    for id in [one, bulk] {
        let dead = world.until(id, JobState::Dead).await;
        let error = dead.error.unwrap();
        assert_eq!((error.code.as_str(), dead.attempt), ("endpoint_moved", 1), "it is not tried again");
        assert!(error.message.contains("`Authorization`") && !error.message.contains("hunter2"), "{}", error.message);
        assert!(error.message.contains(here.url.strip_suffix("/hook?x=1").unwrap()), "{}", error.message);
    }
    for id in [plain, harmless] {
        world.until(id, JobState::Succeeded).await;
    }
    assert_eq!((here.seen().len(), elsewhere.seen().len()), (0, 2));
    assert_eq!(elsewhere.seen().iter().filter(|seen| seen.head.contains("paid")).count(), 1, "what is no secret follows");

    retry::retry(&world.ctx, &world.caller, one).await.unwrap();
    assert_eq!(world.died_of(one).await, "endpoint_moved", "requeued, it is for where it was");
    let anew = world.deliver_with_headers(&endpoint).await;
    world.until(anew, JobState::Succeeded).await;
    assert_eq!(elsewhere.seen()[2].header("authorization"), "Bearer hunter2", "given when the endpoint led there");
    assert!(!elsewhere.seen()[..2].iter().any(|seen| seen.head.contains("hunter2")));
    world.move_to(&endpoint, &here.url.replace("/hook", "/other")).await;
    retry::retry(&world.ctx, &world.caller, one).await.unwrap();
    world.until(one, JobState::Succeeded).await;
    assert_eq!((here.seen().len(), here.seen()[0].header("authorization")), (1, "Bearer hunter2"));
}

#[tokio::test]
async fn headers_of_jobs_from_before_an_upgrade_are_sent_where_the_endpoint_led_then_and_nowhere_else() {
    let (world, (here, elsewhere)) = (World::new().await, receivers().await);
    let endpoint = world.endpoint(&here.url).await;
    let first = world.deliver_with_headers(&endpoint).await;
    world.forget_origin(first).await;
    world.move_to(&endpoint, &here.url.replace("/hook", "/other")).await;
    let worker = world.worker(&[]);
    world.until(first, JobState::Succeeded).await;
    assert_eq!(here.seen()[0].header("authorization"), "Bearer hunter2");
    // Nobody takes the second before the endpoint is moved.
    worker.signal(Signal::SIGTERM);
    assert!(worker.ended().await);
    let second = world.deliver_with_headers(&endpoint).await;
    world.forget_origin(second).await;
    world.move_to(&endpoint, &elsewhere.url).await;
    let _worker = world.worker(&[]);
    assert_eq!(world.died_of(second).await, "endpoint_moved");
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn headers_of_a_schedule_that_are_secrets_go_to_no_other_origin_than_they_were_given_for() {
    let (world, (here, elsewhere)) = (World::new().await, receivers().await);
    let endpoint = world.endpoint(&here.url).await;
    let schedule = world.schedule(&endpoint).await;
    let (waiting, before) = (world.trigger(&schedule).await.unwrap(), "Bearer hunter2");
    world.move_to(&endpoint, &elsewhere.url).await;
    let _worker = world.worker(&[]);
    assert_eq!(world.died_of(waiting).await, "endpoint_moved", "its endpoint was moved when it was made");
    assert_eq!(world.trigger(&schedule).await.unwrap_err().code, Code::EndpointMoved);
    let kept = json!({"Authorization": "***", "X-Event": "paid"});
    let refused = world.set_headers(&schedule, &endpoint, kept.clone()).await.unwrap_err();
    assert_eq!(refused.fields[0].pointer, "/job/target/headers/Authorization");
    let patch: PatchSchedule = serde_json::from_value(json!({"payload": {"n": 2}})).unwrap();
    schedules::update(&world.ctx, &world.caller, schedule.id, patch, |_| Ok(())).await.unwrap();
    assert_eq!(world.trigger(&schedule).await.unwrap_err().code, Code::EndpointMoved, "another change gives no headers");
    assert!(elsewhere.seen().is_empty());

    world.move_to(&endpoint, &here.url).await;
    world.set_headers(&schedule, &endpoint, kept).await.unwrap();
    let back = world.trigger(&schedule).await.unwrap();
    world.until(back, JobState::Succeeded).await;
    assert_eq!(here.seen()[0].header("authorization"), before);
    world.move_to(&endpoint, &elsewhere.url).await;
    world.set_headers(&schedule, &endpoint, json!({"Authorization": "Bearer other"})).await.unwrap();
    let anew = world.trigger(&schedule).await.unwrap();
    world.until(anew, JobState::Succeeded).await;
    assert_eq!(elsewhere.seen()[0].header("authorization"), "Bearer other");

    // As if a release before had written it.
    sqlx::query("UPDATE schedules SET target_origin = NULL").execute(&world.ctx.pg).await.unwrap();
    let unknown = world.trigger(&schedule).await.unwrap();
    assert_eq!(world.died_of(unknown).await, "endpoint_moved");
    assert_eq!(elsewhere.seen().len(), 1);
}

#[tokio::test]
async fn headers_of_what_follows_a_batch_go_to_no_other_origin_than_they_were_given_for() {
    let (world, (here, elsewhere)) = (World::new().await, receivers().await);
    let endpoint = world.endpoint(&here.url).await;
    let _worker = world.worker(&[]);
    assert_eq!(world.complete(&endpoint, async {}).await, None);
    here.was_reached(1).await;
    assert_eq!(here.seen()[0].header("authorization"), "Bearer hunter2");
    let moved = Box::pin(world.complete(&endpoint, world.move_to(&endpoint, &elsewhere.url))).await;
    assert_eq!(moved.as_deref(), Some("endpoint_moved"));
    assert!(elsewhere.seen().is_empty());
}
