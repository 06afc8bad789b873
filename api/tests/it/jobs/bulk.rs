//! `/jobs/bulk`: JSON and NDJSON, one by one or all or nothing.

use super::World;
use crate::support::{send, send_for_problem};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn mixed() -> Value {
    json!({"jobs": [{"kind": "debug.echo"}, {"kind": "nobody.knows"}, {"kind": 7}, {"kind": "debug.echo"}]})
}

fn statuses(answer: &Value) -> Vec<u64> {
    let items = answer["items"].as_array().unwrap();
    assert!(items.iter().enumerate().all(|(index, item)| item["index"] == index));
    items.iter().map(|item| item["status"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn each_item_is_answered_in_order() {
    let world = World::new().await;
    let (status, answer) = send(world.post("/jobs/bulk").json(&mixed())).await;
    assert_eq!((status, statuses(&answer)), (StatusCode::MULTI_STATUS, vec![202, 422, 400, 202]));
    assert_eq!(answer["items"][1]["problem"]["code"], "unknown_kind");
    let id = answer["items"][3]["id"].as_str().unwrap();
    assert_eq!(send(world.get(&format!("/jobs/{id}"))).await.0, StatusCode::OK);
    assert_eq!(world.count("jobs").await, 2);
}

#[tokio::test]
async fn atomic_writes_nothing_when_one_is_refused() {
    let world = World::new().await;
    let (status, problem) = send(world.post("/jobs/bulk?atomic=true").json(&mixed())).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("validation_failed")));
    assert_eq!(problem["errors"][0]["pointer"], "/jobs/1/kind");
    assert_eq!(world.count("jobs").await, 0);
    let good = json!({"jobs": [{"kind": "debug.echo"}, {"kind": "debug.echo"}]});
    let (status, answer) = send(world.post("/jobs/bulk?atomic=true").json(&good)).await;
    assert_eq!((status, statuses(&answer)), (StatusCode::MULTI_STATUS, vec![202, 202]));
}

#[tokio::test]
async fn lines_are_taken_in_any_number() {
    let world = World::new().await;
    let mut lines = "{\"kind\":\"debug.echo\"}\n".repeat(2_500);
    lines.push_str("\n{\"kind\":\n{\"kind\":\"debug.echo\",\"payload\":\"last\"}");
    let (status, answer) = send(world.post("/jobs/bulk").header("content-type", "application/x-ndjson").body(lines)).await;
    assert_eq!(status, StatusCode::MULTI_STATUS);
    let statuses = statuses(&answer);
    assert_eq!((statuses.len(), statuses[2_500], statuses[2_501]), (2_502, 400, 202));
    assert_eq!(world.count("jobs").await, 2_501);
}

#[tokio::test]
async fn a_body_that_cannot_be_gone_through_says_from_where_on() {
    let world = World::with(&[("MAX_BULK_BYTES", "1048576")]).await;
    let line = format!("{{\"kind\":\"debug.echo\",\"payload\":\"{}\"}}\n", "x".repeat(300));
    // Chunked, so that nothing announces that it is too large.
    let chunks = futures_util::stream::iter(vec![line.repeat(1_000); 4].into_iter().map(Ok::<_, std::io::Error>));
    let body = reqwest::Body::wrap_stream(chunks);
    let (status, answer) = send(world.post("/jobs/bulk").header("content-type", "application/x-ndjson").body(body)).await;
    assert_eq!(status, StatusCode::MULTI_STATUS, "{answer}");
    assert_eq!(answer["stopped"]["problem"]["code"], "body_too_large");
    let done = statuses(&answer).len();
    assert_eq!(answer["stopped"]["index"], done);
    assert_eq!(world.count("jobs").await, i64::try_from(done).unwrap());
    assert!(done >= 1_000, "{done}");
}

#[tokio::test]
async fn a_repeated_bulk_makes_its_jobs_once() {
    let world = World::new().await;
    let bulk = || world.post("/jobs/bulk").header("idempotency-key", "bulk-1").json(&mixed());
    let (_, first) = send(bulk()).await;
    let second = bulk().send().await.unwrap();
    assert_eq!(second.headers()["idempotency-replayed"], "true");
    assert_eq!(second.json::<Value>().await.unwrap(), first);
    assert_eq!(world.count("jobs").await, 2);
}

#[tokio::test]
async fn a_repeated_bulk_is_another_one_where_its_query_means_another() {
    let world = World::new().await;
    let bulk = |key: &str, query: &str| {
        let body = json!({"jobs": [{"kind": "debug.echo"}]});
        world.post(&format!("/jobs/bulk{query}")).header("idempotency-key", key).json(&body)
    };
    for (key, first, same, other) in [("k1", "", "?atomic=false", "?atomic=true"), ("k2", "?atomic=true", "?atomic=true", "")] {
        assert_eq!(send(bulk(key, first)).await.0, StatusCode::MULTI_STATUS);
        assert_eq!(bulk(key, same).send().await.unwrap().headers()["idempotency-replayed"], "true");
        assert_eq!(send_for_problem(bulk(key, other)).await, (422, "idempotency_key_reused".to_owned()));
    }
    assert_eq!(world.count("jobs").await, 2);
}

#[tokio::test]
async fn a_bulk_that_is_none_is_refused_as_a_whole() {
    let world = World::with(&[("MAX_BULK_BYTES", "1048576")]).await;
    let too_many = json!({"jobs": vec![json!({"kind": "debug.echo"}); 1_001]});
    for (body, status, code) in [
        (json!({"jobs": []}), 422, "validation_failed"),
        (too_many, 422, "validation_failed"),
        (json!({"jobs": 7}), 400, "invalid_json"),
        (json!([[{"kind": "debug.echo"}]]), 400, "invalid_json"),
        (json!({"job": []}), 400, "invalid_json"),
        (json!({"jobs": [{"kind": "debug.echo", "payload": "x".repeat(2 << 20)}]}), 413, "body_too_large"),
    ] {
        assert_eq!(send_for_problem(world.post("/jobs/bulk").json(&body)).await, (status, code.to_owned()));
    }
    let text = world.post("/jobs/bulk").header("content-type", "text/plain").body("{}");
    assert_eq!(send_for_problem(text).await, (415, "unsupported_media_type".to_owned()));
    let empty = world.post("/jobs/bulk").header("content-type", "application/x-ndjson").body("\n\n");
    assert_eq!(send_for_problem(empty).await, (422, "validation_failed".to_owned()));
    assert_eq!(world.count("jobs").await, 0);
}

#[tokio::test]
async fn a_bulk_that_we_fail_leaves_its_key_free() {
    let world = World::with(&[("DB_LOCK_TIMEOUT_MS", "50")]).await;
    let mut other = world.app.state.ctx.pg.begin().await.unwrap();
    sqlx::query("LOCK TABLE jobs IN EXCLUSIVE MODE").execute(&mut *other).await.unwrap();
    for path in ["/jobs/bulk", "/jobs/bulk?atomic=true"] {
        let bulk = world.post(path).header("idempotency-key", "bulk-1").json(&json!({"jobs": [{"kind": "debug.echo"}]}));
        let (status, code) = send_for_problem(bulk).await;
        assert!(status >= 500, "{status} {code}");
    }
    other.rollback().await.unwrap();
    let bulk = world.post("/jobs/bulk").header("idempotency-key", "bulk-1").json(&json!({"jobs": [{"kind": "debug.echo"}]}));
    let (status, answer) = send(bulk).await;
    assert_eq!((status, statuses(&answer)), (StatusCode::MULTI_STATUS, vec![202]));
}
