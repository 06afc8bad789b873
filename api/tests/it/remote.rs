//! `/worker-sessions` and `/leases`: workers in any language, and what they get wrong.

mod examples;
mod lying;
mod waiting;

use crate::{
    auth::{register_admin, token},
    support::{TestApp, send},
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use shared::jobs::engine::{Limits, QueueKeys, QueueRow, expire, reconcile};
use std::time::{Duration, Instant};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const QUEUE: &str = "remote";

/// An app with a queue that allows remote workers, and an operator's words.
pub(crate) struct World {
    pub(crate) app: TestApp,
    pub(crate) admin: Value,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(overrides: &[(&str, &str)]) -> Self {
        let app = TestApp::start_with(overrides).await;
        let admin = register_admin(&app).await;
        let world = Self { app, admin };
        let patch = world.request(Method::PATCH, &format!("/queues/{QUEUE}")).json(&json!({"remote": true}));
        assert_eq!(send(patch).await.0, StatusCode::OK);
        world.restore(QUEUE).await;
        world
    }

    /// Lets Redis know the queue, as the leader of the workers does.
    pub(crate) async fn restore(&self, queue: &str) {
        let created_at = self.app.state.ctx.clock.now();
        let row = QueueRow { name: queue.parse().unwrap(), is_paused: false, is_remote: true, limits: Limits::default(), created_at };
        reconcile::restore(&self.app.state.ctx, &row).await.unwrap();
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.app.request(method, &format!("/api/v1{path}")).bearer_auth(token(&self.admin))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        send(self.request(Method::GET, path)).await.1
    }

    pub(crate) async fn submit(&self, body: Value) -> String {
        let mut body = body;
        body["queue"] = json!(QUEUE);
        body["kind"] = body.get("kind").cloned().unwrap_or(json!("thumbnails.make"));
        let (status, job) = send(self.post("/jobs", &body)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn session(&self) -> String {
        self.session_with(json!({})).await
    }

    pub(crate) async fn session_with(&self, more: Value) -> String {
        let mut body = json!({"name": "w", "queues": [QUEUE], "concurrency": 4});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, session) = send(self.post("/worker-sessions", &body)).await;
        assert_eq!(status, StatusCode::CREATED, "{session}");
        session["session_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn lease(&self, session: &str, max: usize) -> Vec<Value> {
        let (status, leased) = send(self.post("/leases", &json!({"session_id": session, "max": max}))).await;
        assert_eq!(status, StatusCode::OK, "{leased}");
        leased["jobs"].as_array().unwrap().clone()
    }

    pub(crate) async fn lease_one(&self, session: &str) -> String {
        let jobs = self.lease(session, 1).await;
        assert_eq!(jobs.len(), 1, "there is a job to lease");
        jobs[0]["lease_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn settle(&self, session: &str, settle: Value) -> Vec<Value> {
        let (status, answer) = send(self.post("/leases/settle", &json!({"session_id": session, "settle": settle}))).await;
        assert_eq!(status, StatusCode::MULTI_STATUS, "{answer}");
        answer["items"].as_array().unwrap().clone()
    }

    pub(crate) async fn beat(&self, session: &str, leases: Value) -> Value {
        let (status, beat) = send(self.post("/leases/heartbeat", &json!({"session_id": session, "leases": leases}))).await;
        assert_eq!(status, StatusCode::OK, "{beat}");
        beat
    }

    /// Lets every lease expire, and the leader deal with it.
    async fn expire(&self) {
        let ctx = &self.app.state.ctx;
        let (leased, mut connection) = (ctx.keys.queue(QUEUE, "leased"), ctx.redis.connection());
        let ids: Vec<String> = redis::cmd("ZRANGE").arg(&leased).arg(0).arg(-1).query_async(&mut connection).await.unwrap();
        for id in ids {
            redis::cmd("ZADD").arg(&leased).arg(1).arg(id).exec_async(&mut connection).await.unwrap();
        }
        self.sweep().await;
    }

    /// Lets the leader deal with what has expired by now.
    async fn sweep(&self) {
        let ctx = &self.app.state.ctx;
        let keys = QueueKeys::new(&ctx.keys, &QUEUE.parse().unwrap());
        expire::sweep(ctx, &mut ctx.redis.connection(), &keys).await.unwrap();
    }

    /// The outcomes of the job's attempts that failed.
    async fn failed_attempts(&self, id: &str) -> Vec<Value> {
        let attempts = self.get(&format!("/jobs/{id}/attempts")).await;
        attempts["items"].as_array().unwrap().iter().map(|attempt| attempt["outcome"].clone()).collect()
    }
}

pub(crate) fn ok(token: &str) -> Value {
    json!({"lease_token": token, "outcome": "ok", "result": {"width": 640}})
}

#[tokio::test]
async fn a_job_is_leased_run_and_settled_and_seen_all_the_while() {
    let world = World::new().await;
    let id = world.submit(json!({"payload": {"file": "a.png"}, "tags": ["t"]})).await;
    let session = world.session_with(json!({"version": "1.2", "labels": {"zone": "b"}})).await;
    let jobs = world.lease(&session, 10).await;
    assert_eq!((jobs.len(), &jobs[0]["job"]["id"], &jobs[0]["attempt"]), (1, &json!(id), &json!(1)));
    assert_eq!((&jobs[0]["job"]["payload"], &jobs[0]["job"]["tags"]), (&json!({"file": "a.png"}), &json!(["t"])));
    let job = world.get(&format!("/jobs/{id}")).await;
    assert_eq!((&job["state"], &job["worker_id"]), (&json!("running"), &json!(session)));
    let token = jobs[0]["lease_token"].as_str().unwrap();
    let beat = world.beat(&session, json!([{"lease_token": token, "progress": {"percent": 40, "message": "half"}}])).await;
    assert_eq!((&beat["extended"], &beat["command"]), (&json!([token]), &json!("none")));
    assert_eq!(world.get(&format!("/jobs/{id}")).await["progress"], json!({"percent": 40.0, "message": "half"}));
    let worker = world.get(&format!("/workers/{session}")).await;
    assert_eq!((&worker["kind"], &worker["name"], &worker["version"]), (&json!("remote"), &json!("w"), &json!("1.2")));
    assert_eq!((&worker["active"][0]["job_id"], &worker["active"][0]["kind"]), (&json!(id), &json!("thumbnails.make")));
    let items = world.settle(&session, json!([ok(token)])).await;
    assert_eq!(items[0], json!({"index": 0, "lease_token": token, "status": 200, "state": "succeeded"}));
    let job = world.get(&format!("/jobs/{id}")).await;
    assert_eq!((&job["state"], &job["result"]), (&json!("succeeded"), &json!({"width": 640})));
    assert_eq!((&job["worker_id"], &job["attempt"]), (&json!(session), &json!(1)));
    world.beat(&session, json!([])).await;
    assert_eq!(world.get(&format!("/workers/{session}")).await["counts"]["done"], 1);
}

#[tokio::test]
async fn who_waits_is_woken_by_a_submit_and_gets_no_more_than_it_asked_for() {
    let world = World::new().await;
    let session = world.session().await;
    let wait = |wait_ms: u64| send(world.post("/leases", &json!({"session_id": session, "max": 2, "wait_ms": wait_ms})));
    assert_eq!(wait(20).await.1, json!({"jobs": []}), "nothing when the wait ends");
    let submits = async {
        world.submit(json!({})).await;
        world.submit(json!({})).await;
        world.submit(json!({})).await;
    };
    let (_, (status, first)) = tokio::join!(submits, wait(20_000));
    assert_eq!(status, StatusCode::OK);
    let n_first = first["jobs"].as_array().unwrap().len();
    assert!((1..=2).contains(&n_first), "{first}");
    assert_eq!(world.lease(&session, 10).await.len(), 3 - n_first);
}

#[tokio::test]
async fn every_outcome_does_to_the_job_what_it_says() {
    let world = World::new().await;
    let session = world.session().await;
    let outcomes = [
        (json!({"outcome": "fail", "error": {"code": "smtp", "message": "refused"}, "retry_after_ms": 60_000}), "retrying", 1),
        (json!({"outcome": "snooze", "delay_ms": 60_000}), "scheduled", 1),
        (json!({"outcome": "discard", "reason": "no such image"}), "dead", 1),
        (json!({"outcome": "release"}), "queued", 0),
    ];
    for (settle, state, attempt) in outcomes {
        let id = world.submit(json!({})).await;
        let lease_token = world.lease_one(&session).await;
        let mut settle = settle;
        settle["lease_token"] = json!(lease_token);
        let items = world.settle(&session, json!([settle])).await;
        assert_eq!((&items[0]["status"], &items[0]["state"]), (&json!(200), &json!(state)), "{settle}");
        let job = world.get(&format!("/jobs/{id}")).await;
        assert_eq!((&job["state"], &job["attempt"]), (&json!(state), &json!(attempt)), "{settle}");
    }
    let again = world.lease(&session, 10).await;
    assert_eq!(again.len(), 1, "what was released is leased at once");
    assert_eq!(again[0]["attempt"], 2);
}

#[tokio::test]
async fn settles_ride_on_the_next_lease() {
    let world = World::new().await;
    let session = world.session().await;
    let first = world.submit(json!({})).await;
    let second = world.submit(json!({})).await;
    let lease_token = world.lease_one(&session).await;
    let (status, leased) = send(world.post("/leases", &json!({"session_id": session, "max": 1, "settle": [ok(&lease_token)]}))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&leased["settled"][0]["status"], &leased["jobs"][0]["job"]["id"]), (&json!(200), &json!(second)));
    assert_eq!(world.get(&format!("/jobs/{first}")).await["state"], "succeeded");
}

#[tokio::test]
async fn a_worker_that_vanishes_costs_its_job_one_failure_and_no_more() {
    let world = World::new().await;
    let session = world.session().await;
    let id = world.submit(json!({"retry": {"base_ms": 1, "max_ms": 1}})).await;
    let late = world.lease_one(&session).await;
    world.expire().await;
    let attempts = world.get(&format!("/jobs/{id}/attempts")).await;
    assert_eq!((&attempts["items"][0]["outcome"], &attempts["items"][0]["worker_id"]), (&json!("lost"), &json!(session)));
    assert_eq!(world.beat(&session, json!([{"lease_token": late}])).await["lost"], json!([late]));
    assert_eq!(world.settle(&session, json!([ok(&late)])).await[0]["code"], "lease_lost");
    // Due after a millisecond: the leader's next sweep makes it ready.
    let lease_token = loop {
        world.expire().await;
        if let Some(job) = world.lease(&session, 1).await.first() {
            break job["lease_token"].as_str().unwrap().to_owned();
        }
    };
    assert_eq!(world.settle(&session, json!([ok(&lease_token)])).await[0]["state"], "succeeded");
}

#[tokio::test]
async fn any_process_settles_what_another_leased() {
    let world = World::new().await;
    let keys_dir = world.app.state.ctx.settings().jwt_keys_dir.to_str().unwrap().to_owned();
    let session = world.session().await;
    world.submit(json!({})).await;
    let lease_token = world.lease_one(&session).await;
    let twin = world.app.twin(&[("JWT_KEYS_DIR", &keys_dir)]).await;
    let beat = twin.post("/api/v1/leases/heartbeat").bearer_auth(token(&world.admin));
    let (status, beat) = send(beat.json(&json!({"session_id": session, "leases": [{"lease_token": lease_token}]}))).await;
    assert_eq!((status, &beat["extended"]), (StatusCode::OK, &json!([lease_token])));
    let settle = twin.post("/api/v1/leases/settle").bearer_auth(token(&world.admin));
    let (_, answer) = send(settle.json(&json!({"session_id": session, "settle": [ok(&lease_token)]}))).await;
    assert_eq!(answer["items"][0]["state"], "succeeded");
}

#[tokio::test]
async fn a_cancel_is_told_by_the_next_heartbeat_and_settles_as_cancelled() {
    let world = World::new().await;
    let session = world.session().await;
    let id = world.submit(json!({})).await;
    let lease_token = world.lease_one(&session).await;
    let (status, _) = send(world.post(&format!("/jobs/{id}/cancel"), &json!({}))).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let beat = world.beat(&session, json!([{"lease_token": lease_token}])).await;
    assert_eq!((&beat["cancel"], &beat["extended"]), (&json!([lease_token]), &json!([lease_token])));
    let items = world.settle(&session, json!([{"lease_token": lease_token, "outcome": "release"}])).await;
    assert_eq!(items[0]["state"], "cancelled");
    assert_eq!(world.get(&format!("/jobs/{id}")).await["state"], "cancelled");
}

#[tokio::test]
async fn what_a_caller_that_hung_up_would_have_got_goes_to_the_next() {
    let world = World::new().await;
    let (gone, next) = (world.session().await, world.session().await);
    let hangs_up = world.post("/leases", &json!({"session_id": gone, "max": 1, "wait_ms": 30_000})).timeout(Duration::from_millis(300));
    hangs_up.send().await.unwrap_err();
    let id = world.submit(json!({})).await;
    let wait = world.post("/leases", &json!({"session_id": next, "max": 1, "wait_ms": 10_000}));
    let (_, leased) = send(wait).await;
    assert_eq!((&leased["jobs"][0]["job"]["id"], &leased["jobs"][0]["attempt"]), (&json!(id), &json!(1)));
}

#[tokio::test]
async fn a_quieted_worker_is_told_and_gets_nothing() {
    let world = World::new().await;
    let session = world.session().await;
    world.submit(json!({})).await;
    for (order, command) in [("quiet", "quiet"), ("stop", "terminate")] {
        let (status, _) = send(world.post(&format!("/workers/{session}/{order}"), &json!({}))).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_eq!(world.beat(&session, json!([])).await["command"], command);
        assert_eq!(world.beat(&session, json!([])).await["command"], command, "and goes on being told");
        assert!(world.lease(&session, 1).await.is_empty());
    }
    assert_eq!(world.get(&format!("/workers/{session}")).await["state"], "draining");
    let (status, _) = send(world.post(&format!("/workers/{session}/resume"), &json!({}))).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(world.beat(&session, json!([])).await["command"], "none");
    assert_eq!(world.lease(&session, 1).await.len(), 1);
}

#[tokio::test]
async fn a_worker_gets_the_kinds_that_it_named_and_large_payloads_whole() {
    let world = World::new().await;
    let picky = world.session_with(json!({"kinds": ["mail.render"]})).await;
    let text = "x".repeat(100_000);
    world.submit(json!({"kind": "thumbnails.make"})).await;
    let mail = world.submit(json!({"kind": "mail.render", "payload": {"text": text}})).await;
    let jobs = world.lease(&picky, 10).await;
    assert_eq!((jobs.len(), &jobs[0]["job"]["id"]), (1, &json!(mail)));
    assert_eq!(jobs[0]["job"]["payload"]["text"], json!(text));
    let thumbnail = &world.get(&format!("/jobs?queue={QUEUE}&kind=thumbnails.make")).await["items"][0];
    assert_eq!((&thumbnail["attempt"], &thumbnail["state"]), (&json!(0), &json!("queued")));
}

#[tokio::test]
async fn a_job_that_overruns_its_time_is_timed_out_whether_its_worker_is_heard_of_or_not() {
    let world = World::new().await;
    let session = world.session().await;
    let short = || world.submit(json!({"timeout_ms": 300, "retry": {"max_attempts": 1}}));
    let heard_of = short().await;
    let lease_token = world.lease_one(&session).await;
    let held = json!([{"lease_token": lease_token, "progress": {"percent": 1}}]);
    assert_eq!(world.beat(&session, held.clone()).await["extended"], json!([lease_token]));
    until("its lease is lost", async || world.beat(&session, held.clone()).await["lost"] == json!([lease_token])).await;
    until("it is dead", async || {
        world.sweep().await;
        world.get(&format!("/jobs/{heard_of}")).await["state"] == "dead"
    })
    .await;
    assert_eq!(world.failed_attempts(&heard_of).await, ["timeout"]);
    assert_eq!(world.settle(&session, json!([ok(&lease_token)])).await[0]["code"], "lease_lost");

    let silent = short().await;
    let leased = world.lease(&session, 1).await;
    let expires_at = OffsetDateTime::parse(leased[0]["expires_at"].as_str().unwrap(), &Rfc3339).unwrap();
    assert!(expires_at - world.app.state.ctx.clock.now() < Duration::from_secs(5), "the lease ends with the job");
    until("it is dead", async || {
        world.sweep().await;
        world.get(&format!("/jobs/{silent}")).await["state"] == "dead"
    })
    .await;
    assert_eq!(world.failed_attempts(&silent).await, ["timeout"]);
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}: never");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_session_that_is_opened_again_under_its_key_is_the_same() {
    let world = World::new().await;
    let open = |name: &str| {
        let body = json!({"name": name, "queues": [QUEUE], "concurrency": 1});
        send(world.post("/worker-sessions", &body).header("idempotency-key", "w-1"))
    };
    let (status, first) = open("w").await;
    assert_eq!(status, StatusCode::CREATED, "{first}");
    assert_eq!(open("w").await, (StatusCode::CREATED, first));
    assert_eq!(open("another").await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_process_that_stops_answers_workers_that_wait() {
    let world = World::new().await;
    let session = world.session().await;
    let wait = world.post("/leases", &json!({"session_id": session, "max": 1, "wait_ms": 30_000}));
    let began = Instant::now();
    // Whether it waits by then or comes after, it is not to wait.
    let (answer, ()) = tokio::join!(send(wait), async { shared::jobs::wait::end_all(&world.app.state.ctx) });
    assert_eq!((answer.0, &answer.1["jobs"]), (StatusCode::OK, &json!([])));
    assert!(began.elapsed() < Duration::from_secs(20));
}
