//! Channels of a cluster: each is published and heard at the master of its slot.

use crate::{cluster::Move, world::World};
use serde_json::value::RawValue;
use shared::{
    channels::{Channel, Delivery, Link, NewPublication, listing, publish},
    testing::RedisTopology,
};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};

/// What takes longer hangs.
const LIMIT: Duration = Duration::from_secs(20);

struct Listener {
    link: Link,
    batches: mpsc::Receiver<Vec<Delivery>>,
    heard: Vec<Delivery>,
}

impl Listener {
    async fn start(world: &World, channels: &[Channel]) -> Self {
        let (link, batches) = Link::start(world.ctx.clone());
        let names: Vec<_> = channels.iter().map(|channel| channel.name.clone()).collect();
        while link.subscribe(names.clone()).await.is_err() {}
        Self { link, batches, heard: Vec::new() }
    }

    async fn next(&mut self) -> Delivery {
        while self.heard.is_empty() {
            self.heard = timeout(LIMIT, self.batches.recv()).await.expect("something is delivered").expect("the link goes on");
        }
        self.heard.remove(0)
    }

    /// The name of the channel that the next publication is of.
    async fn publication(&mut self) -> String {
        let next = self.next().await;
        let Delivery::Publication { channel, .. } = next else { panic!("{next:?}") };
        channel.to_string()
    }
}

async fn tell(world: &World, channel: &Channel) {
    let data = RawValue::from_string("1".to_owned()).unwrap();
    let new = NewPublication::new(&data).unwrap();
    while publish(&world.ctx, channel, &new).await.is_err() {}
}

fn channel(world: &World, name: &str) -> Channel {
    world.ctx.namespaces.resolve(name).unwrap()
}

#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn channels_of_all_masters_are_heard_and_listed() {
    let world = World::new(RedisTopology::cluster()).await;
    let channels: Vec<Channel> = (0..50).map(|n| channel(&world, &format!("chat:{n}"))).collect();
    let mut listener = Listener::start(&world, &channels).await;
    for channel in &channels {
        tell(&world, channel).await;
        assert_eq!(listener.publication().await, channel.name.as_str());
    }
    assert_eq!(listing::matching(&world.ctx, "chat:*").await.unwrap().len(), channels.len());
    listener.link.unsubscribe(vec![channels[0].name.clone()]).await;
    while listing::matching(&world.ctx, "chat:0").await.unwrap().len() == 1 {}
    tell(&world, &channels[0]).await;
    tell(&world, &channels[1]).await;
    assert_eq!(listener.publication().await, "chat:1", "the other was left");
}

#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn a_channel_whose_slot_moves_is_heard_where_it_is_then() {
    let world = World::new(RedisTopology::cluster()).await;
    let channel = channel(&world, "chat:1");
    let mut listener = Listener::start(&world, std::slice::from_ref(&channel)).await;
    tell(&world, &channel).await;
    assert_eq!(listener.publication().await, "chat:1");
    let mut moving = Move::begin(&world, "c:chat:1").await;
    let keys = &world.ctx.keys;
    for key in [keys.channel_meta("chat:1"), keys.channel_history("chat:1"), keys.channel_unsaved("chat:1")] {
        moving.take(&key).await;
    }
    moving.end().await;
    assert!(matches!(listener.next().await, Delivery::Lost));
    while !matches!(listener.next().await, Delivery::Restored) {}
    tell(&world, &channel).await;
    loop {
        // The connections to both masters may have been lost and restored.
        if let Delivery::Publication { channel, .. } = listener.next().await {
            assert_eq!(channel.as_str(), "chat:1");
            break;
        }
    }
}
