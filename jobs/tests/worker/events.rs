//! What a real worker makes subscribers of a job's channel hear.

use crate::world::World;
use serde_json::{Value, json};
use shared::{channels::Delivery, channels::Link, ids::JobId, jobs::events};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};

/// Subscribes to the job's channel, as the process of a socket does.
pub(crate) async fn subscribe(world: &World, id: JobId) -> (Link, mpsc::Receiver<Vec<Delivery>>) {
    let channel = world.ctx.namespaces.resolve(&format!("job:{id}")).unwrap();
    let (link, deliveries) = Link::start(world.ctx.clone());
    link.subscribe(vec![channel.name.clone()]).await.unwrap();
    events::follow(&world.ctx, &channel).await.unwrap();
    (link, deliveries)
}

/// What is heard until the job has ended.
pub(crate) async fn heard(mut deliveries: mpsc::Receiver<Vec<Delivery>>) -> Vec<Value> {
    heard_until(&mut deliveries, &["succeeded", "dead"]).await
}

/// What is heard until one of these events.
pub(crate) async fn heard_until(deliveries: &mut mpsc::Receiver<Vec<Delivery>>, last: &[&str]) -> Vec<Value> {
    let mut heard: Vec<Value> = Vec::new();
    while !heard.last().is_some_and(|event| last.iter().any(|last| event["event"] == *last)) {
        let batch = timeout(Duration::from_secs(20), deliveries.recv()).await.expect("it is told").expect("the link stays");
        heard.extend(batch.into_iter().filter_map(|delivery| match delivery {
            Delivery::Publication { publication, .. } => Some(serde_json::from_slice::<Value>(&publication.body).unwrap()["data"].clone()),
            Delivery::Join { .. } | Delivery::Leave { .. } | Delivery::Control(_) | Delivery::Lost | Delivery::Restored => None,
        }));
    }
    heard
}

fn names(heard: &[Value]) -> Vec<&str> {
    heard.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_job_that_takes_its_time_tells_how_far_it_is() {
    let world = World::new().await;
    let id = world.sleep(600).await;
    let (_link, deliveries) = subscribe(&world, id).await;
    let _worker = world.worker(&[]);
    let heard = heard(deliveries).await;
    let names = names(&heard);
    assert_eq!((names[0], names[names.len() - 1]), ("started", "succeeded"));
    assert!(names[1..names.len() - 1].iter().all(|name| *name == "progress") && names.len() > 2, "{names:?}");
    let percents: Vec<f64> = heard.iter().filter_map(|event| event["progress"]["percent"].as_f64()).collect();
    assert!(percents.is_sorted() && percents.iter().all(|percent| (0.0..=100.0).contains(percent)), "{percents:?}");
}

#[tokio::test]
async fn each_failure_is_told_and_then_the_death() {
    let world = World::new().await;
    let retry = json!({"max_attempts": 3, "base_ms": 1, "max_ms": 1});
    let id = world.submit(json!({"kind": "debug.fail", "delay_ms": 200, "retry": retry, "payload": {"message": "no"}})).await;
    let (_link, deliveries) = subscribe(&world, id).await;
    let _worker = world.worker(&[]);
    let heard = heard(deliveries).await;
    let told: Vec<(&str, i64)> = heard.iter().map(|event| (event["event"].as_str().unwrap(), event["attempt"].as_i64().unwrap())).collect();
    assert_eq!(told, [("started", 1), ("retrying", 1), ("started", 2), ("retrying", 2), ("started", 3), ("dead", 3)]);
    assert_eq!(heard[5]["error"], json!({"code": "debug_fail", "message": "no"}));
}
