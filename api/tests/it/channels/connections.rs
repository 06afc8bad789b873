//! `POST /connections/{client}/disconnect` and `/users/{id}/disconnect`: what is announced to every process.

use super::{World, user_id};
use crate::support::{send, send_for_problem};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Listens for orders, as every process does.
pub(super) async fn orders(world: &World) -> impl AsyncFnMut() -> Value + use<> {
    let ctx = &world.app.state.ctx;
    let mut listener = ctx.redis.pubsub().await.unwrap();
    listener.subscribe(ctx.keys.channels_control()).await.unwrap();
    let mut messages = listener.into_on_message();
    async move || {
        let message = timeout(Duration::from_secs(5), messages.next()).await.expect("an order comes").unwrap();
        serde_json::from_slice(message.get_payload_bytes()).unwrap()
    }
}

#[tokio::test]
async fn operators_close_one_connection_or_all_of_a_user() {
    let world = World::new().await;
    let mut next_order = orders(&world).await;
    let one = "/api/v1/connections/0197a1b2-0000-7000-8000-000000000000/disconnect";
    assert_eq!(send_for_problem(world.post(&world.ada, one, &json!({}))).await, (403, "forbidden".to_owned()));
    assert_eq!(send(world.post(&world.admin, one, &json!({}))).await.0, 204);
    let client = json!({"client": "0197a1b2-0000-7000-8000-000000000000"});
    assert_eq!(next_order().await, json!({"disconnect": {"to": client, "code": 3503, "reason": "force disconnect"}}));
    let all = format!("/api/v1/users/{}/disconnect", user_id(&world.ada));
    assert_eq!(send(world.post(&world.admin, &all, &json!({"code": 4000, "reason": "come again"}))).await.0, 204);
    let user = json!({"user": user_id(&world.ada)});
    assert_eq!(next_order().await, json!({"disconnect": {"to": user, "code": 4000, "reason": "come again"}}));
    let (_, log) = send(world.get(&world.admin, "/audit?limit=2")).await;
    assert_eq!((&log["items"][0]["action"], &log["items"][0]["subject_id"]), (&json!("connections_closed"), &world.ada["user"]["id"]));
    assert_eq!((&log["items"][1]["subject_kind"], &log["items"][1]["detail"]["client"]), (&json!("connection"), &client["client"]));
}

#[tokio::test]
async fn codes_and_reasons_that_no_close_frame_should_have_are_refused() {
    let world = World::new().await;
    for body in [json!({"code": 1000}), json!({"code": 5000}), json!({"reason": "x".repeat(124)}), json!({"reason": "{\"a\":1}"})] {
        let refused = world.post(&world.admin, "/api/v1/connections/x/disconnect", &body);
        assert_eq!(send_for_problem(refused).await, (422, "validation_failed".to_owned()), "{body}");
    }
}
