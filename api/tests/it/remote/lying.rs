//! Remote workers that are wrong, lie or are not allowed: each is told so, and nothing is lost by it.

use super::{QUEUE, World, ok};
use crate::{
    auth::{register, token},
    support::{send, send_for_problem},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn a_settle_that_is_told_twice_is_answered_as_the_first_was() {
    let world = World::new().await;
    let session = world.session().await;
    let id = world.submit(json!({})).await;
    let lease_token = world.lease_one(&session).await;
    let first = world.settle(&session, json!([ok(&lease_token)])).await;
    assert_eq!(world.settle(&session, json!([ok(&lease_token)])).await, first);
    let other = json!([{"lease_token": lease_token, "outcome": "discard", "reason": "no"}]);
    assert_eq!(world.settle(&session, other).await, first, "the outcome that is stored");
    assert_eq!(world.get(&format!("/jobs/{id}")).await["state"], "succeeded");
    let twice = world.settle(&session, json!([ok(&lease_token), ok(&lease_token)])).await;
    assert_eq!((&twice[0]["status"], &twice[1]["status"]), (&json!(200), &json!(422)));
}

#[tokio::test]
async fn the_lease_of_another_is_lost_to_whoever_shows_it() {
    let world = World::new().await;
    let (holder, thief) = (world.session().await, world.session().await);
    let id = world.submit(json!({})).await;
    let lease_token = world.lease_one(&holder).await;
    let stolen = world.settle(&thief, json!([ok(&lease_token)])).await;
    assert_eq!((&stolen[0]["status"], &stolen[0]["code"]), (&json!(409), &json!("lease_lost")));
    assert_eq!(world.beat(&thief, json!([{"lease_token": lease_token}])).await["lost"], json!([lease_token]));
    let forged = lease_token.replace(&id, &Uuid::now_v7().to_string());
    assert_eq!(world.settle(&holder, json!([ok(&forged)])).await[0]["code"], "lease_lost");
    assert_eq!(world.settle(&holder, json!([ok(&lease_token)])).await[0]["status"], 200, "the holder's lease was not touched");
}

#[tokio::test]
async fn a_settle_that_cannot_be_kept_leaves_its_lease_and_its_neighbours_alone() {
    let world = World::with(&[("MAX_PAYLOAD_BYTES", "64KiB")]).await;
    let session = world.session().await;
    let good = world.submit(json!({})).await;
    world.submit(json!({})).await;
    let jobs = world.lease(&session, 2).await;
    let tokens: Vec<&str> = jobs.iter().map(|job| job["lease_token"].as_str().unwrap()).collect();
    let bad = |more: Value| {
        let mut settle = ok(tokens[1]);
        settle.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settle
    };
    let refusals = [
        (bad(json!({"result": "x".repeat(10 << 20)})), "payload_too_large"),
        (bad(json!({"result": "nul \u{0}"})), "invalid_text"),
        (bad(json!({"outcome": "fail"})), "validation_failed"),
        (json!({"lease_token": tokens[1], "outcome": "fail", "error": {"code": "", "message": ""}}), "validation_failed"),
        (bad(json!({"outcome": "win"})), "invalid_json"),
        (bad(json!({"delay_ms": 5})), "validation_failed"),
        (bad(json!({"lease_token": "nonsense"})), "validation_failed"),
        (json!(7), "invalid_json"),
    ];
    for (settle, code) in refusals {
        let items = world.settle(&session, json!([ok(tokens[0]), settle])).await;
        assert_eq!((&items[0]["status"], &items[1]["status"], &items[1]["code"]), (&json!(200), &json!(422), &json!(code)));
        assert!(items[1]["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{items:?}");
    }
    assert_eq!(world.get(&format!("/jobs/{good}")).await["state"], "succeeded");
    assert_eq!(world.settle(&session, json!([ok(tokens[1])])).await[0]["state"], "succeeded");
}

#[tokio::test]
async fn an_old_lease_of_a_job_beside_its_new_one_does_the_new_one_no_harm() {
    let world = World::new().await;
    let session = world.session().await;
    world.submit(json!({})).await;
    let old = world.lease_one(&session).await;
    world.settle(&session, json!([{"lease_token": old, "outcome": "release"}])).await;
    let new = world.lease_one(&session).await;
    for leases in [[&old, &new], [&new, &old]] {
        let beat = world.beat(&session, json!(leases.map(|token| json!({"lease_token": token})))).await;
        assert_eq!((&beat["extended"], &beat["lost"]), (&json!([new]), &json!([old])));
    }
    let settled = world.settle(&session, json!([ok(&old), ok(&new)])).await;
    assert_eq!((&settled[0]["code"], &settled[1]["state"]), (&json!("lease_lost"), &json!("succeeded")));
}

#[tokio::test]
async fn nobody_keeps_a_worker_alive_that_is_not_theirs() {
    let world = World::new().await;
    let session = world.session().await;
    let (ctx, unknown) = (&world.app.state.ctx, Uuid::now_v7().to_string());
    let mut connection = ctx.redis.connection();
    let key = ctx.keys.worker_session(&session);
    let text: String = redis::cmd("GET").arg(&key).query_async(&mut connection).await.unwrap();
    let mut foreign: Value = serde_json::from_str(&text).unwrap();
    foreign["owner_id"] = json!(Uuid::now_v7());
    redis::cmd("SET").arg(&key).arg(foreign.to_string()).exec_async(&mut connection).await.unwrap();
    redis::cmd("DEL").arg(ctx.keys.worker(&session)).exec_async(&mut connection).await.unwrap();
    for id in [&session, &unknown] {
        let ask = world.post("/leases", &json!({"session_id": id, "max": 1}));
        assert_eq!(send_for_problem(ask).await, (404, "not_found".to_owned()));
        let is_kept: bool = redis::cmd("EXISTS").arg(ctx.keys.worker(id)).query_async(&mut connection).await.unwrap();
        assert!(!is_kept, "nothing is noted of it");
    }
}

#[tokio::test]
async fn progress_that_cannot_be_is_refused_and_the_lease_is_still_held() {
    let world = World::new().await;
    let session = world.session().await;
    let id = world.submit(json!({})).await;
    let lease_token = world.lease_one(&session).await;
    for percent in [json!(101), json!(-1), json!("half"), json!(1e300)] {
        let lie = json!({"session_id": session, "leases": [{"lease_token": lease_token, "progress": {"percent": percent}}]});
        let (status, _) = send_for_problem(world.post("/leases/heartbeat", &lie)).await;
        assert!(status == 422 || status == 400, "{percent}");
    }
    for percent in [70, 30] {
        world.beat(&session, json!([{"lease_token": lease_token, "progress": {"percent": percent}}])).await;
    }
    assert_eq!(world.get(&format!("/jobs/{id}")).await["progress"]["percent"], 30.0, "the last word counts");
    assert_eq!(world.settle(&session, json!([ok(&lease_token)])).await[0]["status"], 200);
}

#[tokio::test]
async fn sessions_are_for_who_may_work_on_queues_that_allow_it() {
    let world = World::new().await;
    let session = world.session().await;
    let open = |queues: Value| world.post("/worker-sessions", &json!({"name": "w", "queues": queues, "concurrency": 1}));
    assert_eq!(send_for_problem(open(json!(["default"]))).await, (422, "validation_failed".to_owned()));
    assert_eq!(send_for_problem(open(json!([QUEUE, "no-such-queue"]))).await, (422, "validation_failed".to_owned()));
    assert_eq!(send_for_problem(open(json!([]))).await, (422, "validation_failed".to_owned()));
    for (field, text) in
        [("name", "w\n"), ("name", "\u{202e}w"), ("version", "\u{202e}\n"), ("version", "1\u{2066}2"), ("version", "1\u{7}")]
    {
        let mut body = json!({"name": "w", "queues": [QUEUE], "concurrency": 1});
        body[field] = json!(text);
        let (status, problem) = send(world.post("/worker-sessions", &body)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(format!("/{field}"))), "{text:?}");
    }
    let unknown = json!({"session_id": Uuid::now_v7(), "max": 1});
    assert_eq!(send_for_problem(world.post("/leases", &unknown)).await, (404, "not_found".to_owned()));
    let bob = register(&world.app, "bob@example.org").await;
    let ask = world.app.post("/api/v1/leases").bearer_auth(token(&bob)).json(&json!({"session_id": session, "max": 1}));
    assert_eq!(send_for_problem(ask).await, (403, "insufficient_scope".to_owned()));
}

#[tokio::test]
async fn a_key_for_working_works_and_may_nothing_else() {
    let world = World::new().await;
    let new = json!({"name": "worker", "scopes": ["jobs:work"]});
    let (status, key) = send(world.post("/api-keys", &new)).await;
    assert_eq!(status, StatusCode::CREATED, "{key}");
    let with_key =
        |path: &str, body: &Value| world.app.post(&format!("/api/v1{path}")).header("x-api-key", key["key"].as_str().unwrap()).json(body);
    let (status, session) = send(with_key("/worker-sessions", &json!({"name": "w", "queues": [QUEUE], "concurrency": 1}))).await;
    assert_eq!(status, StatusCode::CREATED, "{session}");
    world.submit(json!({})).await;
    let (status, leased) = send(with_key("/leases", &json!({"session_id": session["session_id"], "max": 1}))).await;
    assert_eq!((status, leased["jobs"].as_array().unwrap().len()), (StatusCode::OK, 1));
    assert_eq!(send_for_problem(with_key("/jobs", &json!({"kind": "debug.echo"}))).await, (403, "insufficient_scope".to_owned()));
    let reader = json!({"name": "reader", "scopes": ["jobs:read", "workers"]});
    let (_, reader) = send(world.post("/api-keys", &reader)).await;
    let ask = world.app.post("/api/v1/leases").header("x-api-key", reader["key"].as_str().unwrap());
    let ask = ask.json(&json!({"session_id": session["session_id"], "max": 1}));
    assert_eq!(send_for_problem(ask).await, (403, "insufficient_scope".to_owned()));
}

#[tokio::test]
async fn a_queue_that_is_deleted_or_closed_to_remote_workers_gives_them_nothing_and_does_not_come_back() {
    let world = World::new().await;
    let session = world.session().await;
    world.submit(json!({})).await;
    let patch = world.request(Method::PATCH, &format!("/queues/{QUEUE}")).json(&json!({"remote": false}));
    assert_eq!(send(patch).await.0, StatusCode::OK);
    assert!(world.lease(&session, 1).await.is_empty());
    assert_eq!(send(world.post(&format!("/queues/{QUEUE}/purge"), &json!({}))).await.0, StatusCode::OK);
    assert_eq!(send(world.request(Method::DELETE, &format!("/queues/{QUEUE}"))).await.0, StatusCode::NO_CONTENT);
    assert!(world.lease(&session, 1).await.is_empty());
    let gone = world.request(Method::GET, &format!("/queues/{QUEUE}"));
    assert_eq!(send_for_problem(gone).await, (404, "not_found".to_owned()));
}
