//! `POST /broadcasts`.

use super::World;
use crate::support::{send, send_for_problem};
use serde_json::{Value, json};

#[tokio::test]
async fn each_channel_gets_its_own_answer_in_order() {
    let world = World::new().await;
    let body = json!({"channels": ["chat:a", "nowhere:b", "public:c", "chat:d"], "data": {"n": 1}});
    let (status, answer) = send(world.post(&world.ada, "/api/v1/broadcasts", &body)).await;
    assert_eq!(status, 207);
    let items = answer["items"].as_array().unwrap();
    let statuses: Vec<_> = items.iter().map(|item| (item["index"].as_u64().unwrap(), item["status"].as_u64().unwrap())).collect();
    assert_eq!(statuses, [(0, 201), (1, 404), (2, 403), (3, 201)]);
    assert_eq!((&items[0]["offset"], &items[2]["problem"]["code"]), (&json!(1), &json!("forbidden")));
    assert_eq!(world.history("chat:d").await["publications"][0]["data"], json!({"n": 1}));
}

#[tokio::test]
async fn a_repeat_with_the_same_key_publishes_nothing() {
    let world = World::new().await;
    let body = json!({"channels": ["chat:a", "chat:b"], "data": 1});
    let broadcast = || world.post(&world.ada, "/api/v1/broadcasts", &body).header("idempotency-key", "k1");
    let first = send(broadcast()).await;
    let again = broadcast().send().await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!((again.status(), again.json::<Value>().await.unwrap()), first);
    assert_eq!(world.history("chat:b").await["offset"], 1);
    let in_body = json!({"channels": ["chat:a", "chat:b"], "data": 2, "idempotency_key": "k2"});
    for _ in 0..2 {
        send(world.post(&world.ada, "/api/v1/broadcasts", &in_body)).await;
    }
    assert_eq!(world.history("chat:b").await["offset"], 2);
}

#[tokio::test]
async fn what_all_channels_get_together_is_no_more_than_a_bulk_and_counts_as_much() {
    let world = World::with(&[("MAX_BULK_BYTES", "4MiB"), ("RATE_LIMIT_BULK", "5/h"), ("RATE_LIMITS", "on")]).await;
    let body = |n_channels: usize| {
        let channels: Vec<String> = (0..n_channels).map(|n| format!("chat:{n}")).collect();
        json!({"channels": channels, "data": "x".repeat(60_000)})
    };
    let broadcast = |n_channels| world.post(&world.ada, "/api/v1/broadcasts", &body(n_channels));
    assert_eq!(send_for_problem(broadcast(100)).await, (422, "validation_failed".to_owned()));
    // 3.4 MiB: four of the five, of which the refused one had one.
    assert_eq!(send(broadcast(60)).await.0, 207);
    assert_eq!(send_for_problem(broadcast(60)).await, (429, "rate_limited".to_owned()));
    assert_eq!(world.history("chat:0").await["offset"], 1);
}

#[tokio::test]
async fn none_and_too_many_channels_are_refused() {
    let world = World::new().await;
    for n in [0, 1_001] {
        let channels: Vec<String> = (0..n).map(|n| format!("chat:{n}")).collect();
        let broadcast = world.post(&world.ada, "/api/v1/broadcasts", &json!({"channels": channels, "data": 1}));
        assert_eq!(send_for_problem(broadcast).await, (422, "validation_failed".to_owned()));
    }
}
