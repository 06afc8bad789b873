//! `/schedules`: statuses, headers and bodies; the rules themselves are tested beside them.

use crate::{
    auth::{register, register_admin, token},
    jobs::World,
    support::{send, send_for_problem},
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

async fn create(world: &World, body: &Value) -> Value {
    let (status, schedule) = send(world.post("/schedules").json(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{schedule}");
    schedule
}

async fn yearly(world: &World) -> Value {
    create(world, &json!({"name": "yearly", "kind": "debug.echo", "cron": "0 0 1 1 *", "timezone": "Europe/Berlin"})).await
}

fn request(world: &World, method: Method, schedule: &Value, rest: &str) -> RequestBuilder {
    let id = schedule["id"].as_str().unwrap();
    world.app.request(method, &format!("/api/v1/schedules/{id}{rest}")).bearer_auth(token(&world.ada))
}

#[tokio::test]
async fn a_schedule_is_made_read_changed_and_deleted() {
    let world = World::new().await;
    let mut schedule = yearly(&world).await;
    assert!(schedule["next_run_at"].as_str().unwrap().ends_with("-12-31T23:00:00Z"), "{schedule}");
    let read = request(&world, Method::GET, &schedule, "").send().await.unwrap();
    let etag = read.headers()["etag"].clone();
    assert_eq!(read.json::<Value>().await.unwrap(), schedule);
    let patch = || request(&world, Method::PATCH, &schedule, "").header("if-match", &etag).json(&json!({"overlap": "skip"}));
    assert_eq!(send(patch()).await.1["overlap"], "skip");
    assert_eq!(send_for_problem(patch()).await, (412, "precondition_failed".to_owned()));
    let (_, page) = send(world.get("/schedules?limit=1")).await;
    assert_eq!((&page["items"][0]["id"], &page["next_cursor"]), (&schedule["id"], &Value::Null));
    assert_eq!(send(request(&world, Method::DELETE, &schedule, "")).await.0, StatusCode::NO_CONTENT);
    assert_eq!(send_for_problem(request(&world, Method::GET, &schedule, "")).await, (404, "not_found".to_owned()));
    schedule["id"] = json!("not-an-id");
    assert_eq!(send_for_problem(request(&world, Method::GET, &schedule, "")).await, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn a_repeated_creation_or_trigger_is_done_once() {
    let world = World::new().await;
    let body = json!({"name": "hourly", "kind": "debug.echo", "every_ms": 3_600_000});
    let create = || world.post("/schedules").header("idempotency-key", "k1").json(&body);
    let (first, second) = (send(create()).await, create().send().await.unwrap());
    assert_eq!((first.0, second.headers()["idempotency-replayed"].as_bytes()), (StatusCode::CREATED, &b"true"[..]));
    assert_eq!(second.json::<Value>().await.unwrap(), first.1);
    let trigger = || request(&world, Method::POST, &first.1, "/trigger").header("idempotency-key", "k2");
    let (one, two) = (send(trigger()).await, send(trigger()).await);
    assert_eq!((one.0, &one.1["kind"], &one.1), (StatusCode::ACCEPTED, &json!("debug.echo"), &two.1));
    assert_eq!(world.count("jobs").await, 1);
    let tag = one.1["tags"][0].as_str().unwrap();
    let (_, jobs) = send(world.get(&format!("/jobs?tag={tag}"))).await;
    assert_eq!(jobs["items"][0]["id"], one.1["id"], "the jobs of a schedule are found by its tag");
}

#[tokio::test]
async fn pause_resume_trigger_and_next_answer_with_what_they_did() {
    let world = World::new().await;
    let schedule = yearly(&world).await;
    let post = |action: &str| request(&world, Method::POST, &schedule, action);
    let (_, paused) = send(post("/pause")).await;
    assert_eq!((&paused["paused"], &paused["next_run_at"]), (&json!(true), &Value::Null));
    assert_eq!(send(post("/trigger")).await.0, StatusCode::ACCEPTED);
    assert_eq!(send(post("/resume")).await.1["next_run_at"], schedule["next_run_at"]);
    let (_, next) = send(request(&world, Method::GET, &schedule, "/next?count=3")).await;
    assert_eq!((next["items"].as_array().unwrap().len(), &next["items"][0]), (3, &schedule["next_run_at"]));
    for count in ["0", "101", "x"] {
        let problem = send_for_problem(request(&world, Method::GET, &schedule, &format!("/next?count={count}"))).await;
        assert_eq!(problem, (400, "invalid_query".to_owned()), "{count}");
    }
}

#[tokio::test]
async fn bad_schedules_have_their_problem() {
    let world = World::new().await;
    let cases = [
        (json!({"name": "a", "kind": "debug.echo", "cron": "0 0 31 2 *"}), 422, "validation_failed"),
        (json!({"name": "a", "kind": "debug.echo", "cron": "0 0 * * *", "timezone": "Nowhere"}), 422, "validation_failed"),
        (json!({"name": "a", "kind": "debug.echo"}), 422, "validation_failed"),
        (json!({"name": "a", "kind": "nobody.knows", "every_ms": 1000}), 422, "unknown_kind"),
        (json!({"name": "a", "kind": "debug.echo", "every_ms": 1000, "overlap": "maybe"}), 400, "invalid_json"),
        (json!({"name": "a", "kind": "debug.echo", "every_ms": 1000, "job": {"run_at": "2026-01-01T00:00:00Z"}}), 400, "invalid_json"),
        (json!({"name": "a", "kind": "system.heartbeat", "every_ms": 1000}), 403, "forbidden"),
        (
            json!({"name": "a", "kind": "channel.publish", "every_ms": 1000, "payload": {"channels": ["system"], "data": 1}}),
            403,
            "forbidden",
        ),
    ];
    for (body, status, code) in cases {
        assert_eq!(send_for_problem(world.post("/schedules").json(&body)).await, (status, code.to_owned()), "{body}");
    }
    let body = json!({"name": "a", "kind": "debug.echo", "every_ms": 1000});
    create(&world, &body).await;
    assert_eq!(send_for_problem(world.post("/schedules").json(&body)).await, (409, "conflict".to_owned()));
}

#[tokio::test]
async fn others_see_no_schedule_that_is_not_theirs_and_operators_change_it() {
    let world = World::new().await;
    let schedule = yearly(&world).await;
    let (eve, admin) = (register(&world.app, "eve@example.org").await, register_admin(&world.app).await);
    let as_other = |who: &Value, method: Method, rest: &str| {
        let id = schedule["id"].as_str().unwrap();
        world.app.request(method, &format!("/api/v1/schedules/{id}{rest}")).bearer_auth(token(who))
    };
    for (method, rest) in
        [(Method::GET, ""), (Method::GET, "/next"), (Method::DELETE, ""), (Method::POST, "/pause"), (Method::POST, "/trigger")]
    {
        assert_eq!(send_for_problem(as_other(&eve, method, rest)).await, (404, "not_found".to_owned()), "{rest}");
    }
    assert_eq!(send(as_other(&admin, Method::POST, "/pause")).await.1["paused"], true);
    let (_, job) = send(as_other(&admin, Method::POST, "/trigger")).await;
    assert_eq!(job["owner_id"], schedule["owner_id"], "whoever triggers it, it runs in its owner's name");
    assert_eq!(send(as_other(&admin, Method::DELETE, "")).await.0, StatusCode::NO_CONTENT);
    let (_, log) = send(world.app.get("/api/v1/audit?limit=1").bearer_auth(token(&admin))).await;
    assert_eq!((&log["items"][0]["action"], &log["items"][0]["subject_id"]), (&json!("schedule_deleted"), &schedule["id"]));
}

fn delivering(target: &Value) -> Value {
    json!({"target": target})
}

/// As it is kept, and submitted.
async fn kept(world: &World) -> Value {
    sqlx::query_scalar("SELECT job #> '{target,headers}' FROM schedules WHERE kind = 'http.request'")
        .fetch_one(&world.app.state.ctx.pg)
        .await
        .unwrap()
}

#[tokio::test]
async fn secrets_in_headers_of_a_target_are_kept_and_shown_to_nobody() {
    let world = World::new().await;
    let headers = json!({"Authorization": "Bearer hunter2", "X-Jwt": "hunter2", "X-Shop": "7"});
    let target = json!({"type": "http", "url": "https://8.8.8.8/a", "headers": headers});
    let body = json!({"name": "s", "kind": "http.request", "cron": "0 0 1 1 *", "job": delivering(&target)});
    let post = || world.post("/schedules").header("idempotency-key", "k1").json(&body);
    let (_, made) = send(post()).await;
    assert_eq!(made["job"]["target"]["headers"], json!({"Authorization": "***", "X-Jwt": "***", "X-Shop": "7"}));
    let admin = register_admin(&world.app).await;
    let (_, key) = send(world.post("/api-keys").json(&json!({"name": "k", "scopes": ["jobs:read"]}))).await;
    let path = format!("/api/v1/schedules/{}", made["id"].as_str().unwrap());
    for who in [token(&world.ada), token(&admin), key["key"].as_str().unwrap()] {
        for path in [path.as_str(), "/api/v1/schedules"] {
            let read = world.app.get(path);
            let read = if who == key["key"] { read.header("x-api-key", who) } else { read.bearer_auth(who) };
            let (status, answer) = send(read).await;
            assert!(status == StatusCode::OK && answer.to_string().contains("***") && !answer.to_string().contains("hunter2"), "{answer}");
        }
    }
    let on_it = |method: Method, rest: &str| request(&world, method, &made, rest);
    let again = [
        post(),
        on_it(Method::PATCH, "").json(&json!({"overlap": "skip"})),
        on_it(Method::POST, "/pause"),
        on_it(Method::POST, "/resume"),
        on_it(Method::POST, "/trigger"),
    ];
    for request in again {
        let (status, answer) = send(request).await;
        assert!(status.is_success() && !answer.to_string().contains("hunter2"), "{answer}");
    }
    assert_eq!(kept(&world).await, headers);
    let sent: Value = sqlx::query_scalar("SELECT target -> 'headers' FROM jobs").fetch_one(&world.app.state.ctx.pg).await.unwrap();
    assert_eq!(sent, headers, "its jobs are delivered with the values");
    let (_, jobs) = send(world.get("/jobs")).await;
    assert!(!jobs.to_string().contains("hunter2"), "{jobs}");
    assert_eq!(send(on_it(Method::DELETE, "")).await.0, StatusCode::NO_CONTENT);
    let (_, log) = send(world.app.get("/api/v1/audit").bearer_auth(token(&admin))).await;
    assert!(log.to_string().contains("schedule_deleted") && !log.to_string().contains("hunter2"), "{log}");
}

#[tokio::test]
async fn secrets_in_headers_of_a_target_stay_when_they_are_sent_back_and_go_nowhere_else() {
    let world = World::new().await;
    let (_, endpoint) = send(world.post("/endpoints").json(&json!({"name": "here", "url": "https://8.8.8.8/a"}))).await;
    let (_, other) = send(world.post("/endpoints").json(&json!({"name": "there", "url": "https://8.8.4.4/a"}))).await;
    let to_url = |url: &str, headers: Value| json!({"type": "http", "url": url, "headers": headers});
    let to_endpoint = |of: &Value, headers: Value| json!({"type": "http", "endpoint_id": of["id"], "headers": headers});
    let hidden = || json!({"authorization": "***", "X-Shop": "8"});
    let refused = async |request: RequestBuilder, pointer: &str| {
        let (status, problem) = send(request).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("validation_failed")), "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    };
    let new = |target: Value| json!({"name": "s", "kind": "http.request", "cron": "0 0 1 1 *", "job": delivering(&target)});
    let at = |name: &str| format!("/job/target/headers/{name}");
    refused(world.post("/schedules").json(&new(to_url("https://8.8.8.8/a", hidden()))), &at("authorization")).await;
    let secrets = json!({"Authorization": "Bearer hunter2", "X-Shop": "7"});
    let stays = json!({"authorization": "Bearer hunter2", "X-Shop": "8"});
    for here in [to_url("https://8.8.8.8/a", secrets.clone()), to_endpoint(&endpoint, secrets.clone())] {
        let schedule = create(&world, &new(here.clone())).await;
        let patch = |target: Value| request(&world, Method::PATCH, &schedule, "").json(&json!({"job": delivering(&target)}));
        for elsewhere in [
            to_url("https://8.8.4.4/a", hidden()),
            to_url("http://8.8.8.8/a", hidden()),
            to_url("https://8.8.8.8:444/a", hidden()),
            to_endpoint(&other, hidden()),
        ] {
            refused(patch(elsewhere), &at("authorization")).await;
        }
        let other_way = if here["url"].is_null() { to_url("https://8.8.8.8/a", hidden()) } else { to_endpoint(&endpoint, hidden()) };
        refused(patch(other_way), &at("authorization")).await;
        let mut beside = here.clone();
        beside["headers"] = json!({"X-Api-Key": "***"});
        refused(patch(beside.clone()), &at("X-Api-Key")).await;
        assert_eq!(kept(&world).await, secrets);
        beside["headers"] = hidden();
        beside["method"] = json!("PUT");
        let (status, shown) = send(patch(beside)).await;
        assert_eq!((status, &shown["job"]["target"]["headers"]), (StatusCode::OK, &hidden()));
        assert_eq!(kept(&world).await, stays);
        let anew = to_url("https://8.8.4.4/a", json!({"Authorization": "Bearer other"}));
        assert_eq!(send(patch(anew)).await.0, StatusCode::OK);
        assert_eq!(kept(&world).await, json!({"Authorization": "Bearer other"}));
        assert_eq!(send(request(&world, Method::DELETE, &schedule, "")).await.0, StatusCode::NO_CONTENT);
    }
}
