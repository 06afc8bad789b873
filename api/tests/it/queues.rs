//! `/queues` and `/workers`.

use crate::{
    auth::{register_admin, token},
    jobs::World,
    support::{send, send_for_problem},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::{
    Context,
    ids::WorkerId,
    jobs::{
        worker_orders::WorkerOrder,
        workers::{self, WorkerInstance, WorkerKind, WorkerState},
    },
};

#[tokio::test]
async fn operators_change_queues_and_users_only_look() {
    let world = World::new().await;
    let admin = register_admin(&world.app).await;
    let patch = |who: &Value, body: Value| world.app.request(Method::PATCH, "/api/v1/queues/reports").bearer_auth(token(who)).json(&body);
    let change = json!({"limits": {"max_depth": 1}});
    assert_eq!(send_for_problem(patch(&world.ada, change.clone())).await, (403, "insufficient_scope".to_owned()));
    assert_eq!(send_for_problem(world.get("/queues/reports")).await, (404, "not_found".to_owned()));
    let (status, queue) = send(patch(&admin, change)).await;
    assert_eq!((status, &queue["limits"]["max_depth"]), (StatusCode::OK, &json!(1)));
    assert_eq!(send(world.get("/queues/reports")).await.1["stats"]["queued"], 0);
    let submit = || world.submit(&json!({"kind": "debug.echo", "queue": "reports"}));
    assert_eq!(send(submit()).await.0, StatusCode::ACCEPTED);
    let full = submit().send().await.unwrap();
    assert_eq!((full.status(), full.headers().contains_key("retry-after")), (StatusCode::TOO_MANY_REQUESTS, true));
    let stale = patch(&admin, json!({"remote": true})).header("if-match", "\"stale\"");
    assert_eq!(send_for_problem(stale).await, (412, "precondition_failed".to_owned()));
}

#[tokio::test]
async fn the_tag_of_a_queue_is_that_of_its_settings() {
    let world = World::new().await;
    let admin = register_admin(&world.app).await;
    let request = |method: Method, path: &str| world.app.request(method, &format!("/api/v1/queues{path}")).bearer_auth(token(&admin));
    let tag = async || request(Method::GET, "/default").send().await.unwrap().headers()["etag"].clone();
    let seen = tag().await;
    world.echo().await;
    assert_eq!(tag().await, seen, "a job changes the stats alone");
    let patch = |body: Value| request(Method::PATCH, "/default").header("if-match", &seen).json(&body);
    let changed = patch(json!({"limits": {"max_depth": 7}})).send().await.unwrap();
    assert_eq!((changed.status(), &changed.headers()["etag"]), (StatusCode::OK, &tag().await));
    assert_eq!(send_for_problem(patch(json!({"limits": {"max_depth": 8}}))).await, (412, "precondition_failed".to_owned()));
    let new = request(Method::PATCH, "/new").header("if-match", "*").json(&json!({}));
    assert_eq!(send_for_problem(new).await, (412, "precondition_failed".to_owned()));
}

#[tokio::test]
async fn limits_are_set_shown_and_lifted() {
    let world = World::new().await;
    let admin = register_admin(&world.app).await;
    let patch = |limits: Value| {
        let body = json!({ "limits": limits });
        world.app.request(Method::PATCH, "/api/v1/queues/calls").bearer_auth(token(&admin)).json(&body)
    };
    let limits = json!({"max_depth": null, "concurrency": 5, "rate": {"limit": 100, "per_ms": 60_000}, "per_key_concurrency": 2});
    assert_eq!(send(patch(limits.clone())).await.1["limits"], limits);
    assert_eq!(send(world.get("/queues/calls")).await.1["limits"], limits);
    let lifted = json!({"max_depth": null, "concurrency": null, "rate": null, "per_key_concurrency": null});
    assert_eq!(send(patch(json!({}))).await.1["limits"], lifted);
    let bad = [
        json!({"concurrency": 0}),
        json!({"rate": {"limit": 0, "per_ms": 1}}),
        json!({"rate": {"limit": 1, "per_ms": 86_400_001}}),
        json!({"per_key_concurrency": 101}),
    ];
    for limits in bad {
        assert_eq!(send_for_problem(patch(limits.clone())).await, (422, "validation_failed".to_owned()), "{limits}");
    }
    assert_eq!(send_for_problem(patch(json!({"rate": {"limit": 1}}))).await, (400, "invalid_json".to_owned()));
    for key in ["", "a\nb", &"k".repeat(201)] {
        let submit = world.submit(&json!({"kind": "debug.echo", "concurrency_key": key}));
        assert_eq!(send_for_problem(submit).await, (422, "validation_failed".to_owned()), "{key:?}");
    }
}

#[tokio::test]
async fn a_queue_is_deleted_when_it_is_empty() {
    let world = World::new().await;
    let admin = register_admin(&world.app).await;
    let delete = |queue: &str| world.app.request(Method::DELETE, &format!("/api/v1/queues/{queue}")).bearer_auth(token(&admin));
    let job = send(world.submit(&json!({"kind": "debug.echo", "queue": "reports"}))).await.1;
    assert_eq!(send_for_problem(delete("reports")).await, (409, "conflict".to_owned()));
    assert_eq!(send_for_problem(delete("default")).await, (409, "conflict".to_owned()));
    world.end(job["id"].as_str().unwrap(), "succeeded").await;
    assert_eq!(send(delete("reports")).await.0, StatusCode::NO_CONTENT);
    assert_eq!(send_for_problem(world.get("/queues/reports")).await, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn pause_resume_and_purge_answer_with_what_they_did() {
    let world = World::new().await;
    let admin = register_admin(&world.app).await;
    let post = |action: &str| world.app.post(&format!("/api/v1/queues/default/{action}")).bearer_auth(token(&admin));
    assert_eq!(send(post("pause")).await.1["paused"], true);
    world.echo().await;
    assert_eq!(send(post("purge").json(&json!({}))).await, (StatusCode::OK, json!({"removed": 1})));
    assert_eq!(send(post("resume")).await.1["paused"], false);
    let (_, queues) = send(world.get("/queues?limit=1")).await;
    assert_eq!((&queues["items"][0]["name"], &queues["next_cursor"]), (&json!("default"), &Value::Null));
}

#[tokio::test]
async fn dead_letters_are_listed_requeued_and_deleted() {
    let world = World::new().await;
    let admin = register_admin(&world.app).await;
    let path = "/api/v1/queues/default/dead";
    let request = |method: Method, path: &str| world.app.request(method, path).bearer_auth(token(&admin));
    for _ in 0..2 {
        let id = world.echo().await["id"].as_str().unwrap().to_owned();
        world.end(&id, "dead").await;
    }
    assert_eq!(send_for_problem(world.get("/queues/default/dead")).await, (403, "insufficient_scope".to_owned()));
    let (status, page) = send(request(Method::GET, &format!("{path}?limit=1"))).await;
    assert_eq!((status, &page["items"][0]["state"], page["next_cursor"].is_string()), (StatusCode::OK, &json!("dead"), true));
    let (_, groups) = send(request(Method::GET, &format!("{path}?group=error"))).await;
    assert_eq!(groups, json!({"items": [], "next_cursor": null}), "these died without an error");
    assert_eq!(send_for_problem(request(Method::GET, &format!("{path}?group=mood"))).await, (400, "invalid_query".to_owned()));
    let one = json!({"ids": [page["items"][0]["id"]]});
    let requeued = send(request(Method::POST, &format!("{path}/requeue")).json(&one)).await;
    assert_eq!(requeued, (StatusCode::OK, json!({"requeued": 1, "more": false})));
    let none = request(Method::DELETE, path).json(&json!({}));
    assert_eq!(send_for_problem(none).await, (422, "validation_failed".to_owned()));
    let removed = send(request(Method::DELETE, path).json(&json!({"all": true}))).await;
    assert_eq!(removed, (StatusCode::OK, json!({"removed": 1, "more": false})));
    let (_, log) = send(request(Method::GET, "/api/v1/audit?limit=1")).await;
    assert_eq!((&log["items"][0]["action"], &log["items"][0]["detail"]["queue"]), (&json!("dead_deleted"), &json!("default")));
}

#[tokio::test]
async fn what_operators_do_to_queues_is_in_the_audit_log() {
    let world = World::new().await;
    let admin = register_admin(&world.app).await;
    let request = |method: Method, path: &str| world.app.request(method, path).bearer_auth(token(&admin));
    let patch = request(Method::PATCH, "/api/v1/queues/default").json(&json!({"limits": {"max_depth": 10}}));
    assert_eq!(send(patch).await.0, StatusCode::OK);
    assert_eq!(send(request(Method::POST, "/api/v1/queues/default/pause")).await.0, StatusCode::OK);
    world.echo().await;
    let purged = send(request(Method::POST, "/api/v1/queues/default/purge").json(&json!({}))).await;
    assert_eq!(purged, (StatusCode::OK, json!({"removed": 1})));
    assert_eq!(send(request(Method::POST, "/api/v1/queues/default/resume")).await.0, StatusCode::OK);
    let (_, log) = send(request(Method::GET, "/api/v1/audit?limit=4")).await;
    let entries = log["items"].as_array().unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["queue_resumed", "queue_purged", "queue_paused", "queue_changed"]);
    assert!(entries.iter().all(|entry| entry["detail"]["queue"] == "default" && entry["actor_id"] == admin["user"]["id"]));
    assert_eq!((&entries[1]["detail"]["jobs"], &entries[3]["detail"]["to"]["max_depth"]), (&json!(1), &json!(10)));
}

#[tokio::test]
async fn workers_are_for_operators() {
    let world = World::new().await;
    assert_eq!(send_for_problem(world.get("/workers")).await, (403, "insufficient_scope".to_owned()));
    let admin = register_admin(&world.app).await;
    let (status, workers) = send(world.app.get("/api/v1/workers").bearer_auth(token(&admin))).await;
    assert_eq!((status, workers), (StatusCode::OK, json!({"items": [], "next_cursor": null})));
    let unknown = world.app.get("/api/v1/workers/0197a1b2-0000-7000-8000-000000000000").bearer_auth(token(&admin));
    assert_eq!(send_for_problem(unknown).await, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn a_worker_is_told_to_go_quiet_which_the_audit_log_keeps() {
    let world = World::new().await;
    let admin = register_admin(&world.app).await;
    let worker = reported_worker(&world.app.state.ctx).await;
    let path = |action: &str| format!("/workers/{}/{action}", worker.id);
    assert_eq!(send_for_problem(world.post(&path("quiet"))).await, (403, "insufficient_scope".to_owned()));
    for (action, deed) in [("quiet", "worker_quieted"), ("resume", "worker_resumed"), ("stop", "worker_stopped")] {
        let request = |method, path: &str| world.app.request(method, &format!("/api/v1{path}")).bearer_auth(token(&admin));
        let (status, told) = send(request(Method::POST, &path(action))).await;
        assert_eq!((status, &told["id"]), (StatusCode::ACCEPTED, &json!(worker.id)), "{told}");
        let (_, log) = send(request(Method::GET, "/audit?limit=1")).await;
        let entry = &log["items"][0];
        assert_eq!((&entry["action"], &entry["subject_id"]), (&json!(deed), &json!(worker.id)));
    }
    let told = workers::report(&world.app.state.ctx, &worker).await.unwrap();
    assert_eq!(told, [WorkerOrder::Quiet, WorkerOrder::Resume, WorkerOrder::Stop]);
    assert!(workers::report(&world.app.state.ctx, &worker).await.unwrap().is_empty(), "each is heard once");
}

async fn reported_worker(ctx: &Context) -> WorkerInstance {
    let now = ctx.clock.now();
    let worker = WorkerInstance {
        id: WorkerId::new(),
        kind: WorkerKind::Process,
        name: "here-1".to_owned(),
        host: "here".to_owned(),
        pid: 1,
        version: "0.1.0".to_owned(),
        queues: Vec::new(),
        concurrency: 4,
        prefetch: 16,
        state: WorkerState::Running,
        started_at: now,
        heartbeat_at: Some(now),
        tasks_done: 0,
        tasks_failed: 0,
    };
    workers::report(ctx, &worker).await.unwrap();
    worker
}
