//! Workers that wait for jobs while what they may have changes.

use super::*;

/// Waits for a job in `session`, with `key` or as the operator, has `meanwhile` happen, submits a job, and returns the answer and the job's id.
async fn wait_around(world: &World, session: &str, key: Option<&str>, meanwhile: impl AsyncFnOnce()) -> ((StatusCode, Value), String) {
    let body = json!({"session_id": session, "max": 1, "wait_ms": 20_000});
    let request = match key {
        Some(key) => world.app.post("/api/v1/leases").header("x-api-key", key).json(&body),
        None => world.post("/leases", &body),
    };
    let waiting = tokio::spawn(send(request));
    let began = Instant::now();
    // What a worker may have is looked at again after a moment.
    until("it waits", async || began.elapsed() > Duration::from_millis(400)).await;
    meanwhile().await;
    let id = world.submit(json!({"kind": "debug.echo"})).await;
    (waiting.await.unwrap(), id)
}

#[tokio::test]
async fn a_key_that_is_deleted_while_its_worker_waits_gets_nothing_and_the_job_goes_to_the_next() {
    let world = World::new().await;
    let (_, key) = send(world.post("/api-keys", &json!({"name": "worker", "scopes": ["jobs:work"]}))).await;
    let (session, next) = (world.session().await, world.session().await);
    let delete = async || {
        let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
        assert_eq!(send(world.request(Method::DELETE, &path)).await.0, StatusCode::NO_CONTENT);
    };
    let ((status, answer), id) = wait_around(&world, &session, key["key"].as_str(), delete).await;
    assert_eq!((status, &answer["code"]), (StatusCode::UNAUTHORIZED, &json!("invalid_token")));
    let wait = world.post("/leases", &json!({"session_id": next, "max": 1, "wait_ms": 10_000}));
    let (_, leased) = send(wait).await;
    assert_eq!((&leased["jobs"][0]["job"]["id"], &leased["jobs"][0]["attempt"]), (&json!(id), &json!(1)));
}

#[tokio::test]
async fn a_worker_that_is_told_to_be_quiet_while_it_waits_gets_nothing() {
    let world = World::new().await;
    let session = world.session().await;
    let quiet = async || {
        let (status, _) = send(world.post(&format!("/workers/{session}/quiet"), &json!({}))).await;
        assert_eq!(status, StatusCode::ACCEPTED);
    };
    let ((status, answer), _) = wait_around(&world, &session, None, quiet).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"jobs": []})));
}

#[tokio::test]
async fn a_worker_whose_queue_is_closed_to_it_while_it_waits_gets_nothing() {
    let world = World::new().await;
    let session = world.session().await;
    let close = async || {
        let patch = world.request(Method::PATCH, &format!("/queues/{QUEUE}")).json(&json!({"remote": false}));
        assert_eq!(send(patch).await.0, StatusCode::OK);
        let closed = Instant::now();
        // Copies of a queue's settings are good for a second.
        until("it is heard of", async || closed.elapsed() > Duration::from_millis(1_100)).await;
    };
    let ((status, answer), _) = wait_around(&world, &session, None, close).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"jobs": []})));
}

#[tokio::test]
async fn a_worker_that_waits_for_long_gets_what_comes() {
    let world = World::new().await;
    let session = world.session().await;
    let ((status, answer), id) = wait_around(&world, &session, None, async || {}).await;
    assert_eq!((status, &answer["jobs"][0]["job"]["id"]), (StatusCode::OK, &json!(id)));
}
