//! `job:<id>` and `queue:<name>`: who may subscribe, and that what happens is told from then on.

use super::client::Socket;
use crate::{
    auth::{register, token},
    jobs::World,
    support::send,
};
use serde_json::{Value, json};

async fn job_id(world: &World) -> String {
    world.echo().await["id"].as_str().unwrap().to_owned()
}

/// Says what the scripts say of a job that is followed, if it is.
async fn announce(world: &World, id: &str, event: &str) -> bool {
    let ctx = &world.app.state.ctx;
    let mut connection = ctx.redis.connection();
    let followed: Option<f64> =
        redis::cmd("ZSCORE").arg(ctx.keys.queue("default", "followed")).arg(id).query_async(&mut connection).await.unwrap();
    let line = format!("{id} {event} 1 1700000000000");
    redis::cmd("PUBLISH").arg(ctx.keys.job_events()).arg(line).exec_async(&mut connection).await.unwrap();
    followed.is_some()
}

#[tokio::test]
async fn what_happens_to_a_job_is_told_from_the_answer_to_subscribe_on() {
    let world = World::new().await;
    let id = job_id(&world).await;
    let channel = format!("job:{id}");
    let mut socket = Socket::signed_in(&world.app, token(&world.ada)).await;
    socket.ask("subscribe", json!({"channel": channel})).await.unwrap();
    assert!(announce(&world, &id, "started").await, "the mark is there when the answer is");
    let push = socket.next_push().await;
    assert_eq!((&push["channel"], &push["pub"]["data"]["event"]), (&json!(channel), &json!("started")));
    world.end(&id, "succeeded").await;
    announce(&world, &id, "succeeded").await;
    let told = socket.next_push().await["pub"].clone();
    assert_eq!((&told["offset"], &told["data"]["event"], &told["data"]["result"]), (&json!(2), &json!("succeeded"), &json!({"a": 1})));
}

#[tokio::test]
async fn the_stats_of_a_queue_are_told() {
    let world = World::new().await;
    world.echo().await;
    let mut socket = Socket::signed_in(&world.app, token(&world.ada)).await;
    socket.ask("subscribe", json!({"channel": "queue:default"})).await.unwrap();
    let push = socket.next_push().await;
    assert_eq!((&push["channel"], &push["pub"]["data"]["stats"]["queued"]), (&json!("queue:default"), &json!(1)));
}

#[tokio::test]
async fn jobs_of_others_and_what_there_is_not_cannot_be_followed() {
    let world = World::new().await;
    let id = job_id(&world).await;
    let eve = register(&world.app, "eve@example.org").await;
    let mut socket = Socket::signed_in(&world.app, token(&eve)).await;
    for channel in [format!("job:{id}"), format!("job:{}", uuid::Uuid::now_v7()), "job:x".to_owned(), "queue:no-such-queue".to_owned()] {
        let refused: Value = socket.ask("subscribe", json!({"channel": channel})).await.unwrap_err();
        assert_eq!(refused["code"], 103, "{channel}");
    }
    let own = send(world.app.post("/api/v1/jobs").bearer_auth(token(&eve)).json(&json!({"kind": "debug.echo"}))).await.1;
    socket.ask("subscribe", json!({"channel": format!("job:{}", own["id"].as_str().unwrap())})).await.unwrap();
}
