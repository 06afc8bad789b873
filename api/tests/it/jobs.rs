//! `/jobs`: statuses, headers and bodies; the rules themselves are tested beside them.

mod bulk;

use crate::{
    auth::{register, register_admin, token},
    support::{TestApp, send, send_for_problem},
};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// An app, somebody signed in, and words for their jobs.
pub(crate) struct World {
    pub(crate) app: TestApp,
    pub(crate) ada: Value,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(overrides: &[(&str, &str)]) -> Self {
        let app = TestApp::start_with(overrides).await;
        let ada = register(&app, "ada@example.org").await;
        Self { app, ada }
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.app.get(&format!("/api/v1{path}")).bearer_auth(token(&self.ada))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.app.post(&format!("/api/v1{path}")).bearer_auth(token(&self.ada))
    }

    pub(crate) fn submit(&self, body: &Value) -> RequestBuilder {
        self.post("/jobs").json(body)
    }

    pub(crate) async fn echo(&self) -> Value {
        let (status, job) = send(self.submit(&json!({"kind": "debug.echo", "payload": {"a": 1}}))).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{job}");
        job
    }

    pub(crate) async fn count(&self, table: &'static str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(&self.app.state.ctx.pg).await.unwrap()
    }

    /// Moves a live job to the ended ones, as a worker's conclusion does.
    pub(crate) async fn end(&self, id: &str, state: &str) {
        sqlx::query(
            "WITH gone AS (DELETE FROM jobs WHERE id = $1 RETURNING *)
            INSERT INTO jobs_ended
            SELECT id, owner_id, kind, queue, $2, wait_reason, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
                retry_base_ms, retry_max_ms, attempt + 1, failures, snoozes, nonce, error_code, error_message, cancel_requested_at,
                unique_key, concurrency_key, tags, target, batch_id, request_id, traceparent, created_at, payload, 'w1', now(), now()
            FROM gone",
        )
        .bind(id.parse::<Uuid>().unwrap())
        .bind(state)
        .execute(&self.app.state.ctx.pg)
        .await
        .unwrap();
    }
}

fn id_of(job: &Value) -> String {
    job["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_submit_is_accepted_and_can_be_read_where_it_says() {
    let world = World::new().await;
    let request = world.submit(&json!({"kind": "debug.echo"})).header("x-request-id", "trace-me-1");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let job: Value = response.json().await.unwrap();
    assert_eq!((job["state"].as_str(), job["request_id"].as_str()), (Some("queued"), Some("trace-me-1")));
    let (status, read) = send(world.app.get(&location).bearer_auth(token(&world.ada))).await;
    assert_eq!((status, read), (StatusCode::OK, job));
}

#[tokio::test]
async fn unchanged_jobs_are_not_sent_twice() {
    let world = World::new().await;
    let path = format!("/jobs/{}", id_of(&world.echo().await));
    let first = world.get(&path).send().await.unwrap();
    let etag = first.headers()["etag"].clone();
    let second = world.get(&path).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn bad_submits_have_their_problem() {
    let world = World::new().await;
    let cases = [
        (r#"{"kind":"debug.echo""#, 400, "invalid_json"),
        (r#"{"kind":7}"#, 400, "invalid_json"),
        (r#"{"kind":"debug.echo","surprise":1}"#, 400, "invalid_json"),
        (r#"["debug.echo"]"#, 400, "invalid_json"),
        (r#"{"kind":"debug.echo","retry":[1,2,3]}"#, 400, "invalid_json"),
        (r#"{"kind":"debug.echo","priority":1e400}"#, 400, "invalid_json"),
        (r#"{"kind":"debug.echo","expires_at":"9999-12-31T23:59:59-23:59"}"#, 400, "invalid_json"),
        (r#"{"kind":"debug.echo","run_at":"0000-01-01T00:00:00+23:59"}"#, 400, "invalid_json"),
        (r#"{"kind":"debug.echo","payload":1e400}"#, 422, "validation_failed"),
        (r#"{"kind":"debug.echo","payload":"\u0000"}"#, 422, "invalid_text"),
        (r#"{"kind":"debug.echo","payload":"\ud800"}"#, 422, "invalid_text"),
        (r#"{"kind":"nobody.knows"}"#, 422, "unknown_kind"),
        (r#"{"kind":"debug.echo","unique":{"key":"k","ttl_s":0}}"#, 422, "validation_failed"),
    ];
    for (body, status, code) in cases {
        let request = world.post("/jobs").header("content-type", "application/json").body(body);
        assert_eq!(send_for_problem(request).await, (status, code.to_owned()), "{body}");
    }
    let beyond = "9999-12-31T23:59:59-23:59";
    let batch = json!({"jobs": [{"kind": "debug.echo"}], "on_complete": {"kind": "debug.echo", "expires_at": beyond}});
    assert_eq!(send_for_problem(world.post("/batches").json(&batch)).await, (400, "invalid_json".to_owned()));
    let key = json!({"name": "long", "scopes": ["jobs:read"], "expires_at": beyond});
    assert_eq!(send_for_problem(world.post("/api-keys").json(&key)).await, (400, "invalid_json".to_owned()));
    let deep = format!(r#"{{"kind":"debug.echo","payload":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let request = world.post("/jobs").header("content-type", "application/json").body(deep);
    assert_eq!(send_for_problem(request).await, (400, "json_too_deep".to_owned()));
    let large = world.submit(&json!({"kind": "debug.echo", "payload": "x".repeat(300 << 10)}));
    assert_eq!(send_for_problem(large).await, (422, "payload_too_large".to_owned()));
    assert_eq!(world.count("jobs").await, 0);
}

#[tokio::test]
async fn nobody_submits_without_credentials() {
    let app = TestApp::start().await;
    let request = app.post("/api/v1/jobs").json(&json!({"kind": "debug.echo"}));
    assert_eq!(send_for_problem(request).await, (401, "unauthenticated".to_owned()));
}

#[tokio::test]
async fn a_repeated_submit_makes_one_job() {
    let world = World::new().await;
    let body = json!({"kind": "debug.echo"});
    let submit = |body: &Value| world.submit(body).header("idempotency-key", "once");
    let first = submit(&body).send().await.unwrap();
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    let location = first.headers()["location"].clone();
    let first: Value = first.json().await.unwrap();
    let second = submit(&body).send().await.unwrap();
    assert_eq!(second.headers()["idempotency-replayed"], "true");
    assert_eq!((second.status(), &second.headers()["location"]), (StatusCode::ACCEPTED, &location));
    assert_eq!(second.json::<Value>().await.unwrap(), first);
    let other = submit(&json!({"kind": "debug.echo", "payload": 2}));
    assert_eq!(send_for_problem(other).await, (422, "idempotency_key_reused".to_owned()));
    assert_eq!(world.count("jobs").await, 1);
}

#[tokio::test]
async fn a_duplicate_is_answered_with_the_job_that_holds_its_key() {
    let world = World::new().await;
    let keyed = |on_conflict: &str| json!({"kind": "debug.echo", "unique": {"key": "k", "ttl_s": 60, "on_conflict": on_conflict}});
    let (status, first) = send(world.submit(&keyed("reject"))).await;
    assert_eq!((status, first.get("duplicate")), (StatusCode::ACCEPTED, None));
    let again = world.submit(&keyed("return_existing")).header("prefer", "wait=20").send().await.unwrap();
    assert_eq!((again.status(), again.headers().contains_key("location")), (StatusCode::OK, true));
    let again: Value = again.json().await.unwrap();
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));
    assert_eq!(send_for_problem(world.submit(&keyed("reject"))).await, (409, "duplicate_job".to_owned()));
    for _ in 0..2 {
        let (status, stored) = send(world.submit(&keyed("return_existing")).header("idempotency-key", "once")).await;
        assert_eq!((status, &stored["id"]), (StatusCode::OK, &first["id"]));
    }
    let bulk = json!({"jobs": [keyed("return_existing"), keyed("reject"), {"kind": "debug.echo"}]});
    let (status, answer) = send(world.post("/jobs/bulk").json(&bulk)).await;
    let items = answer["items"].as_array().unwrap();
    assert_eq!((status, &items[0]), (StatusCode::MULTI_STATUS, &json!({"index": 0, "status": 200, "id": first["id"], "duplicate": true})));
    assert_eq!((&items[1]["status"], &items[2]["status"], items[2].get("duplicate")), (&json!(409), &json!(202), None));
    let replaced = send(world.submit(&keyed("replace")).header("idempotency-key", "twice")).await;
    assert_eq!((replaced.0, replaced.1["id"] == first["id"]), (StatusCode::ACCEPTED, false));
    assert_eq!(world.count("jobs").await, 2);
}

#[tokio::test]
async fn a_refused_submit_leaves_its_key_free() {
    let world = World::new().await;
    let refused = world.submit(&json!({"kind": "nobody.knows"})).header("idempotency-key", "again");
    assert_eq!(send_for_problem(refused).await.0, 422);
    let good = world.submit(&json!({"kind": "debug.echo"})).header("idempotency-key", "again");
    assert_eq!(send(good).await.0, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_caller_that_waits_gets_the_result_or_the_202() {
    let world = World::new().await;
    let early = world.submit(&json!({"kind": "debug.echo"})).header("prefer", "wait=0");
    assert_eq!(send(early).await.0, StatusCode::ACCEPTED);
    let waiting = send(world.submit(&json!({"kind": "debug.echo", "queue": "slow", "payload": 7})).header("prefer", "wait=20"));
    let ending = async {
        let id: Uuid = loop {
            let found = sqlx::query_scalar("SELECT id FROM jobs WHERE queue = 'slow'").fetch_optional(&world.app.state.ctx.pg);
            if let Some(id) = found.await.unwrap() {
                break id;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        world.end(&id.to_string(), "succeeded").await;
    };
    let ((status, job), ()) = futures_util::future::join(waiting, ending).await;
    assert_eq!((status, &job["state"], &job["result"]), (StatusCode::OK, &json!("succeeded"), &json!(7)));
    let nonsense = world.submit(&json!({"kind": "debug.echo"})).header("prefer", "wait=soon");
    assert_eq!(send_for_problem(nonsense).await, (400, "invalid_header".to_owned()));
}

#[tokio::test]
async fn a_job_is_its_owners() {
    let world = World::new().await;
    let id = id_of(&world.echo().await);
    let (eve, admin) = (register(&world.app, "eve@example.org").await, register_admin(&world.app).await);
    for path in [format!("/jobs/{id}"), format!("/jobs/{id}/attempts"), "/jobs/nonsense".to_owned()] {
        let path = format!("/api/v1{path}");
        assert_eq!(send_for_problem(world.app.get(&path).bearer_auth(token(&eve))).await, (404, "not_found".to_owned()));
    }
    for action in ["cancel", "retry"] {
        let request = world.app.post(&format!("/api/v1/jobs/{id}/{action}")).bearer_auth(token(&eve));
        assert_eq!(send_for_problem(request).await, (404, "not_found".to_owned()));
    }
    let (status, _) = send(world.app.get(&format!("/api/v1/jobs/{id}")).bearer_auth(token(&admin))).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn cancel_retry_and_delete_answer_by_state() {
    let world = World::new().await;
    let id = id_of(&world.echo().await);
    assert_eq!(send_for_problem(world.post(&format!("/jobs/{id}/retry"))).await, (409, "job_not_dead".to_owned()));
    let (status, job) = send(world.post(&format!("/jobs/{id}/cancel"))).await;
    assert_eq!((status, &job["state"]), (StatusCode::OK, &json!("cancelled")));
    assert_eq!(send_for_problem(world.post(&format!("/jobs/{id}/cancel"))).await, (409, "job_finished".to_owned()));
    let dead = id_of(&world.echo().await);
    world.end(&dead, "dead").await;
    let (status, job) = send(world.post(&format!("/jobs/{dead}/retry"))).await;
    assert_eq!((status, &job["state"], &job["id"]), (StatusCode::OK, &json!("queued"), &json!(dead)));
    let delete = world.app.request(reqwest::Method::DELETE, &format!("/api/v1/jobs/{id}")).bearer_auth(token(&world.ada));
    assert_eq!(send(delete).await.0, StatusCode::NO_CONTENT);
    assert_eq!(send_for_problem(world.get(&format!("/jobs/{id}"))).await.0, 404);
}

#[tokio::test]
async fn lists_page_and_refuse_what_they_do_not_know() {
    let world = World::new().await;
    for _ in 0..3 {
        world.echo().await;
    }
    let (_, first) = send(world.get("/jobs?limit=2&state=queued&created_after=2020-01-01T00:00:00Z")).await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let (_, second) = send(world.get(&format!("/jobs?limit=2&cursor={}", first["next_cursor"].as_str().unwrap()))).await;
    assert_eq!((second["items"].as_array().unwrap().len(), &second["next_cursor"]), (1, &Value::Null));
    for query in ["limit=0", "limit=x", "state=asleep", "surprise=1", "created_after=yesterday"] {
        assert_eq!(send_for_problem(world.get(&format!("/jobs?{query}"))).await, (400, "invalid_query".to_owned()), "{query}");
    }
    assert_eq!(send_for_problem(world.get("/jobs?cursor=abc")).await, (400, "invalid_cursor".to_owned()));
}

#[tokio::test]
async fn jobs_are_taken_while_redis_is_away() {
    let world = World::with(&[("REDIS_URL", "redis://127.0.0.1:9/")]).await;
    let job = world.echo().await;
    let (status, read) = send(world.get(&format!("/jobs/{}", id_of(&job)))).await;
    assert_eq!((status, &read["state"]), (StatusCode::OK, &json!("queued")));
    let (status, _) = send(world.submit(&json!({"kind": "debug.echo"})).header("prefer", "wait=1")).await;
    assert_eq!(status, StatusCode::ACCEPTED);
}
