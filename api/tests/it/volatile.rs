//! Queues with `durability: "redis"`, as callers meet them.

use crate::{
    auth::{register_admin, token},
    jobs::World,
    process::ApiProcess,
    support::{TestApp, send, send_for_problem},
};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use shared::testing::RedisServer;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_job_of_a_redis_queue_is_submitted_once_per_key_found_and_cancelled() {
    let world = World::new().await;
    let admin = register_admin(&world.app).await;
    let patch = world.app.request(Method::PATCH, "/api/v1/queues/quick").bearer_auth(token(&admin)).json(&json!({"durability": "redis"}));
    let (status, queue) = send(patch).await;
    assert_eq!((status, &queue["durability"]), (StatusCode::OK, &json!("redis")));
    let submit = || world.submit(&json!({"kind": "debug.echo", "queue": "quick"})).header("idempotency-key", "once");
    let (status, job) = send(submit()).await;
    assert_eq!((status, send(submit()).await.1), (StatusCode::ACCEPTED, job.clone()));
    let path = format!("/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(send(world.get(&path)).await, (StatusCode::OK, job.clone()));
    assert_eq!(send(world.get("/queues/quick")).await.1["stats"]["queued"], 1);
    assert_eq!(send(world.get(&format!("{path}/attempts"))).await.1["items"], json!([]));
    let waiting = world.submit(&json!({"kind": "debug.echo", "queue": "quick"})).header("prefer", "wait=1");
    assert_eq!(send(waiting).await.1["state"], "queued", "nobody runs it");
    let (status, cancelled) = send(world.post(&format!("{path}/cancel"))).await;
    assert_eq!((status, &cancelled["state"]), (StatusCode::OK, &json!("cancelled")));
    let unique = world.submit(&json!({"kind": "debug.echo", "queue": "quick", "unique": {"key": "k"}}));
    assert_eq!(send_for_problem(unique).await, (422, "validation_failed".to_owned()));
}

#[tokio::test]
async fn without_redis_it_is_refused_and_its_key_is_free_for_another_try() {
    let mut redis = RedisServer::start().await;
    let app = TestApp::start().await;
    shared::accounts::command_line::create_admin(&app.state.accounts, "ada@example.org", &"correct horse battery".into()).await.unwrap();
    sqlx::query("INSERT INTO queues (name, durability) VALUES ('killed', 'redis')").execute(&app.state.ctx.pg).await.unwrap();
    let client = Client::new();
    let process = ApiProcess::start_with(&app, &[("REDIS_URL", &redis.url())]).await;
    let token = process.token(&client).await;
    redis.kill();
    let refused = process.submit(&client, &token, 1).await.unwrap();
    assert_eq!((refused.status(), refused.headers().contains_key("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, true));
    redis.restart().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let accepted = loop {
        let response = process.submit(&client, &token, 1).await.unwrap();
        if response.status() == StatusCode::ACCEPTED {
            break response;
        }
        assert!(Instant::now() < deadline, "still refused: {response:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let job: Value = accepted.json().await.unwrap();
    let path = format!("{}/jobs/{}", process.url, job["id"].as_str().unwrap());
    let found: Value = client.get(path).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
    assert_eq!(found["state"], "queued");
}
