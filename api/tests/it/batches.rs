//! `/batches`, and what submits say of batches and dependencies: statuses, headers and bodies; the rules themselves are tested beside
//! them.

use crate::{
    auth::register,
    auth::token,
    jobs::World,
    support::{send, send_for_problem},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn id_of(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

async fn create(world: &World, body: &Value) -> Value {
    let (status, batch) = send(world.post("/batches").json(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{batch}");
    batch
}

#[tokio::test]
async fn a_batch_is_made_read_listed_and_cancelled() {
    let world = World::new().await;
    let made = world.post("/batches").json(&json!({"name": "two", "jobs": [{"kind": "debug.echo"}, {"kind": "debug.echo"}]}));
    let made = made.send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let location = made.headers()["location"].to_str().unwrap().to_owned();
    let mut batch: Value = made.json().await.unwrap();
    let job_ids = batch.as_object_mut().unwrap().remove("job_ids").unwrap();
    let read = world.app.get(&location).bearer_auth(token(&world.ada)).send().await.unwrap();
    let etag = read.headers()["etag"].clone();
    assert_eq!(read.json::<Value>().await.unwrap(), batch);
    let again = world.app.get(&location).bearer_auth(token(&world.ada)).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(send(world.get("/batches?limit=1")).await.1["items"], json!([batch]));
    let (status, cancelled) = send(world.post(&format!("/batches/{}/cancel", id_of(&batch)))).await;
    assert_eq!((status, &cancelled["counts"]["cancelled"]), (StatusCode::OK, &json!(2)));
    let (_, job) = send(world.get(&format!("/jobs/{}", job_ids[1].as_str().unwrap()))).await;
    assert_eq!(job["state"], "cancelled");
    let unknown = world.get("/batches/01a1f640-bc00-7000-8000-000000000001");
    assert_eq!(send_for_problem(unknown).await, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn a_repeated_creation_makes_one_batch() {
    let world = World::new().await;
    let body = json!({"jobs": [{"kind": "debug.echo"}], "on_complete": {"kind": "debug.echo"}});
    let create = || world.post("/batches").header("idempotency-key", "k1").json(&body);
    let (first, second) = (send(create()).await, create().send().await.unwrap());
    assert_eq!(second.headers()["idempotency-replayed"], "true");
    assert_eq!((first.0, second.json::<Value>().await.unwrap()), (StatusCode::CREATED, first.1));
    assert_eq!((world.count("batches").await, world.count("jobs").await), (1, 1));
}

#[tokio::test]
async fn jobs_join_an_open_batch_one_by_one_in_bulk_and_once_per_key() {
    let world = World::new().await;
    let batch = create(&world, &json!({})).await;
    let job = json!({"kind": "debug.echo", "batch_id": batch["id"]});
    assert_eq!(send(world.submit(&job)).await.0, StatusCode::ACCEPTED);
    let once = || send(world.submit(&job).header("idempotency-key", "k1"));
    assert_eq!(once().await.1["id"], once().await.1["id"]);
    let bulk = |job: &Value| world.post("/jobs/bulk").json(&json!({"jobs": [job, {"kind": "debug.echo"}]}));
    assert_eq!(send(bulk(&job)).await.1["items"][0]["status"], 202);
    let path = format!("/batches/{}", id_of(&batch));
    assert_eq!(send(world.get(&path)).await.1["total"], 3);
    assert_eq!(send(world.post(&format!("{path}/close"))).await.1["state"], "running");
    assert_eq!(send_for_problem(world.submit(&job)).await, (409, "batch_closed".to_owned()));
    let items = send(bulk(&job)).await.1["items"].clone();
    assert_eq!((&items[0]["problem"]["code"], &items[1]["status"]), (&json!("batch_closed"), &json!(202)));
}

#[tokio::test]
async fn a_job_that_waits_says_so_and_is_listed() {
    let world = World::new().await;
    let first = world.echo().await;
    let submit = || world.submit(&json!({"kind": "debug.echo", "depends_on": [first["id"]]})).header("idempotency-key", "k1");
    let (status, waiting) = send(submit()).await;
    assert_eq!((status, waiting["state"].as_str()), (StatusCode::ACCEPTED, Some("waiting")));
    assert_eq!(send(submit()).await.1, waiting);
    let (_, listed) = send(world.get("/jobs?state=waiting")).await;
    assert_eq!(listed["items"], json!([waiting]));
    let bulk = world.post("/jobs/bulk?atomic=true").json(&json!({"jobs": [{"kind": "debug.echo", "depends_on": [first["id"]]}]}));
    assert_eq!(send(bulk).await.1["items"][0]["status"], 202);
    let eve = register(&world.app, "eve@example.org").await;
    let theirs = world.app.post("/api/v1/jobs").bearer_auth(token(&eve)).json(&json!({"kind": "debug.echo", "depends_on": [first["id"]]}));
    assert_eq!(send_for_problem(theirs).await, (422, "validation_failed".to_owned()));
}
