//! Behind Sentinel.

use crate::world::{World, ask, open, send, until};
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use shared::{
    redis::{Role, Topology},
    testing::RedisTopology,
};

#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn commands_and_listeners_follow_when_the_master_is_killed() {
    let world = World::new(RedisTopology::sentinel()).await;
    let mut connection = world.connection();
    let () = ask(&mut connection, "SET k before").await.unwrap();
    let mut pubsub = world.ctx.redis.pubsub().await.unwrap();
    pubsub.subscribe("news").await.unwrap();
    let mut messages = pubsub.into_on_message();
    let master = world.master_of("k").await;
    send(master, Signal::SIGKILL);
    assert!(messages.next().await.is_none(), "the one that was listened to is gone");
    until("writes are taken again", async || ask::<()>(&mut connection, "SET k after").await.is_ok()).await;
    assert_ne!(world.master_of("k").await, master);
    let mut pubsub = world.ctx.redis.pubsub().await.unwrap();
    pubsub.subscribe("news").await.unwrap();
    let () = ask(&mut connection, "PUBLISH news again").await.unwrap();
    assert_eq!(pubsub.on_message().next().await.unwrap().get_payload_bytes(), b"again");
}

#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn a_master_that_is_demoted_is_left() {
    let world = World::new(RedisTopology::sentinel()).await;
    let mut connection = world.connection();
    let before = world.master_of("k").await;
    let facts = world.ctx.redis.facts().await.unwrap();
    let demoted = facts.nodes.iter().find(|node| node.answer.as_ref().unwrap().role == Role::Master).unwrap().address.clone();
    let (hosts, password) = world.topology.url().split_once("/millrace?sentinel_password=").unwrap();
    let (_, sentinel) = hosts.rsplit_once(',').unwrap();
    let () = ask(&mut open(&format!("redis://:{password}@{sentinel}")).await, "SENTINEL FAILOVER millrace").await.unwrap();
    world.until_replaced("k", before).await;
    until("writes are taken", async || ask::<()>(&mut connection, "SET k after").await.is_ok()).await;
    // It took writes for some seconds still, but not ours.
    until("the other is a replica and has it", async || {
        ask::<Option<String>>(&mut world.server(&demoted).await, "GET k").await == Ok(Some("after".into()))
    })
    .await;
    let refused = ask::<()>(&mut world.server(&demoted).await, "SET k mine").await.unwrap_err();
    assert_eq!(refused.code(), Some("READONLY"));
}

/// No error tells of it: the master answers nothing, and then goes on as if it were one.
#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn a_master_that_hung_gets_no_write_once_it_is_replaced() {
    let world = World::new(RedisTopology::sentinel()).await;
    let mut connection = world.connection();
    let mut pubsub = world.ctx.redis.pubsub().await.unwrap();
    pubsub.subscribe("news").await.unwrap();
    let before = world.master_of("k").await;
    send(before, Signal::SIGSTOP);
    world.until_replaced("k", before).await;
    assert!(pubsub.on_message().next().await.is_none(), "a server that hangs is listened to no longer than it is master");
    until("somebody else is listened to", async || {
        let Ok(mut pubsub) = world.ctx.redis.pubsub().await else { return false };
        pubsub.subscribe("news").await.is_ok()
    })
    .await;
    let () = ask(&mut connection, "SET k while-it-hangs").await.unwrap();
    send(before, Signal::SIGCONT);
    for n in 0..200 {
        let () = ask(&mut connection, &format!("SET n:{n} {n}")).await.unwrap();
    }
    let is_replica = async || {
        let facts = world.ctx.redis.facts().await.unwrap();
        facts.nodes.len() == 3 && facts.nodes.iter().all(|node| node.answer.is_ok())
    };
    until("the old master is a replica", is_replica).await;
    for n in 0..200 {
        assert_eq!(ask::<Option<u32>>(&mut connection, &format!("GET n:{n}")).await, Ok(Some(n)));
    }
    assert_eq!(ask::<Option<String>>(&mut connection, "GET k").await, Ok(Some("while-it-hangs".into())));
}

#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn every_server_is_looked_at() {
    let world = World::new(RedisTopology::sentinel()).await;
    let facts = world.ctx.redis.facts().await.unwrap();
    assert_eq!((facts.topology, facts.nodes.len()), (Topology::Sentinel, 3));
    let is_role = |role| facts.nodes.iter().filter(|node| node.answer.as_ref().unwrap().role == role).count();
    assert_eq!((is_role(Role::Master), is_role(Role::Replica)), (1, 2));
    assert_eq!(world.ctx.redis.seen(), Some(format!("sentinel, master {}", facts.nodes[0].address)));
    world.ctx.redis.refuse_eviction(false).await.unwrap();
    let replica = &facts.nodes[2].address;
    let () = ask(&mut world.server(replica).await, "CONFIG SET maxmemory-policy allkeys-lru").await.unwrap();
    let refusal = world.ctx.redis.refuse_eviction(false).await.unwrap_err();
    assert!(format!("{refusal:?}").contains(replica), "{refusal:?}");
    world.ctx.redis.refuse_eviction(true).await.unwrap();
}
