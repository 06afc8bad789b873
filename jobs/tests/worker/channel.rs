//! `channel.publish` by a real worker.

use crate::world::World;
use serde_json::{Value, json};
use shared::{
    channels::{Filter, Reader, history},
    jobs::JobState,
};

async fn published(world: &World, channel: &str) -> Vec<Value> {
    let channel = world.ctx.namespaces.resolve(channel).unwrap();
    let history = history(&world.ctx, &Reader::Process, &channel, &Filter::newest(10)).await.unwrap();
    history.publications.iter().map(|publication| serde_json::from_slice(&publication.body).unwrap()).collect()
}

#[tokio::test]
async fn a_publication_for_later_is_made_when_it_is_due_on_each_channel() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let payload = json!({"channels": ["chat:a", "chat:b"], "data": {"text": "later"}, "tags": {"t": "1"}});
    let id = world.submit(json!({"kind": "channel.publish", "delay_ms": 300, "payload": payload})).await;
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!(serde_json::from_str::<Value>(job.result.unwrap().get()).unwrap(), json!({"published": 2, "refused": []}));
    let info = json!({"user": world.caller.user_id, "client": ""});
    for channel in ["chat:a", "chat:b"] {
        assert_eq!(published(&world, channel).await, [json!({"data": {"text": "later"}, "info": info, "tags": {"t": "1"}})]);
    }
}
