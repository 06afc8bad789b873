//! On a cluster.

use crate::world::{World, ask, send, until};
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use redis::aio::MultiplexedConnection;
use shared::{
    redis::{Role, Topology},
    testing::RedisTopology,
};

#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn a_pipeline_may_hold_keys_of_any_master_and_its_answers_keep_their_order() {
    let world = World::new(RedisTopology::cluster()).await;
    let (mut writes, mut reads) = (redis::pipe(), redis::pipe());
    for n in 0..300 {
        writes.set(format!("k{n}"), n).ignore();
        reads.get(format!("k{n}")).ping();
    }
    writes.exec_async(&mut world.connection()).await.unwrap();
    let answers: Vec<(u32, String)> =
        reads.query_async::<Vec<redis::Value>>(&mut world.connection()).await.unwrap().chunks(2).map(pair).collect();
    assert_eq!(answers, (0..300).map(|n| (n, "PONG".to_owned())).collect::<Vec<_>>());
    let mut atomic = redis::pipe();
    atomic.atomic().incr("{one}a", 1).incr("{one}b", 2);
    assert_eq!(atomic.query_async(&mut world.connection()).await, Ok((1, 2)));
    let keys: Vec<String> = ask(&mut world.connection(), "KEYS k*").await.unwrap();
    assert_eq!(keys.len(), 300, "those of all masters");
    // A script is loaded where it is needed.
    let script = redis::Script::new("return KEYS[1]");
    for n in 0..20 {
        let key: String = script.key(format!("k{n}")).invoke_async(&mut world.connection()).await.unwrap();
        assert_eq!(key, format!("k{n}"));
    }
}

fn pair(values: &[redis::Value]) -> (u32, String) {
    (redis::from_redis_value(values[0].clone()).unwrap(), redis::from_redis_value(values[1].clone()).unwrap())
}

/// A slot on its way to another master, as when a cluster grows.
pub(crate) struct Move {
    slot: u16,
    from: (MultiplexedConnection, String),
    to: (MultiplexedConnection, String),
    others: Vec<MultiplexedConnection>,
}

impl Move {
    /// Of the slot that `{tag}` falls into.
    pub(crate) async fn begin(world: &World, tag: &str) -> Self {
        let slot: u16 = ask(&mut world.connection(), &format!("CLUSTER KEYSLOT {tag}")).await.unwrap();
        let (mut from, mut others) = (None, Vec::new());
        for node in world.ctx.redis.facts().await.unwrap().nodes {
            if node.answer.unwrap().role != Role::Master {
                continue;
            }
            let mut server = world.server(&node.address).await;
            let id: String = ask(&mut server, "CLUSTER MYID").await.unwrap();
            match ask::<Option<String>>(&mut server, &format!("GET {{{tag}}}")).await {
                Ok(_) => from = Some((server, id)),
                Err(_) => others.push((server, id)),
            }
        }
        let (mut from, mut to) = (from.unwrap(), others.pop().unwrap());
        let () = ask(&mut to.0, &format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.1)).await.unwrap();
        let () = ask(&mut from.0, &format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.1)).await.unwrap();
        Self { slot, from, to, others: others.into_iter().map(|(server, _)| server).collect() }
    }

    /// Moves one key.
    pub(crate) async fn take(&mut self, key: &str) {
        let info: redis::InfoDict = ask(&mut self.to.0, "INFO server").await.unwrap();
        let port: u16 = info.get("tcp_port").unwrap();
        let _: String = ask(&mut self.from.0, &format!("MIGRATE 127.0.0.1 {port} {key} 0 1000 AUTH of-the-servers")).await.unwrap();
    }

    pub(crate) async fn end(mut self) {
        let told = format!("CLUSTER SETSLOT {} NODE {}", self.slot, self.to.1);
        for server in [&mut self.to.0, &mut self.from.0].into_iter().chain(&mut self.others) {
            let () = ask(server, &told).await.unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn a_slot_that_moves_is_followed() {
    let world = World::new(RedisTopology::cluster()).await;
    let mut connection = world.connection();
    let () = ask(&mut connection, "SET {m}:old 1").await.unwrap();
    let mut moving = Move::begin(&world, "m").await;
    assert_eq!(ask::<u32>(&mut connection, "GET {m}:old").await, Ok(1), "where it was");
    let () = ask(&mut connection, "SET {m}:new 2").await.unwrap();
    assert_eq!(ask::<Option<u32>>(&mut moving.from.0, "EXISTS {m}:new").await.unwrap_err().code(), Some("ASK"), "it was made elsewhere");
    moving.take("{m}:old").await;
    let mut pipe = redis::pipe();
    pipe.get("{m}:old").get("elsewhere").get("{m}:new").get("nowhere");
    let answers: Vec<Option<u32>> = pipe.query_async(&mut connection).await.unwrap();
    assert_eq!(answers, [Some(1), None, Some(2), None], "in between");
    moving.end().await;
    let answers: Vec<Option<u32>> = pipe.query_async(&mut connection).await.unwrap();
    assert_eq!(answers, [Some(1), None, Some(2), None], "where they are now");
    assert_eq!(ask::<u32>(&mut connection, "INCR {m}:old").await, Ok(2));
}

#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn commands_and_listeners_follow_when_a_master_is_killed_and_the_others_do_not_notice() {
    let world = World::new(RedisTopology::cluster()).await;
    let mut connection = world.connection();
    let mut listening = Vec::new();
    for _ in 0..8 {
        let mut pubsub = world.ctx.redis.pubsub().await.unwrap();
        pubsub.subscribe("news").await.unwrap();
        listening.push(pubsub.into_on_message());
    }
    let () = ask(&mut connection, "PUBLISH news first").await.unwrap();
    for messages in &mut listening {
        assert_eq!(messages.next().await.unwrap().get_payload_bytes(), b"first", "whichever node it listens to");
    }
    let master = world.master_of("{a}").await;
    send(master, Signal::SIGKILL);
    until("writes are taken again", async || ask::<()>(&mut connection, "SET {a} after").await.is_ok()).await;
    assert_ne!(world.master_of("{a}").await, master);
    let mut n_deaf = 0;
    until("a publication is taken", async || ask::<()>(&mut connection, "PUBLISH news second").await.is_ok()).await;
    for messages in &mut listening {
        match messages.next().await {
            Some(message) => assert_eq!(message.get_payload_bytes(), b"second"),
            // It listened to the one that is gone, and knows it.
            None => n_deaf += 1,
        }
    }
    assert!(n_deaf < listening.len(), "the other masters go on");
}

#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn a_master_that_hangs_is_left_and_the_old_view_is_not_believed() {
    let world = World::new(RedisTopology::cluster()).await;
    let mut connection = world.connection();
    let before = world.master_of("{a}").await;
    send(before, Signal::SIGSTOP);
    world.until_replaced("{a}", before).await;
    let () = ask(&mut connection, "SET {a} while-it-hangs").await.unwrap();
    send(before, Signal::SIGCONT);
    for n in 0..200 {
        let () = ask(&mut connection, &format!("SET {{a}}:{n} {n}")).await.unwrap();
    }
    until("the old master is a replica", async || {
        let facts = world.ctx.redis.facts().await.unwrap();
        facts.nodes.iter().filter(|node| node.answer.as_ref().is_ok_and(|answer| answer.role == Role::Replica)).count() == 3
    })
    .await;
    for n in 0..200 {
        assert_eq!(ask::<Option<u32>>(&mut connection, &format!("GET {{a}}:{n}")).await, Ok(Some(n)));
    }
}

/// Every key is where the servers look for it, whatever braces it has: none is sent on.
#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn keys_are_looked_for_where_they_are() {
    let world = World::new(RedisTopology::cluster()).await;
    let mut pipe = redis::pipe();
    let tags = ["", "{", "}", "{}", "{a}", "a{b}c", "{{b}}", "}{", "{}{b}", "{a}{b}", "ü"];
    let keys: Vec<String> = tags.iter().flat_map(|tag| (0..200).map(move |n| format!("{n}{tag}{n}"))).collect();
    for key in &keys {
        pipe.set(key, key).ignore();
    }
    pipe.exec_async(&mut world.connection()).await.unwrap();
    let mut n_refused = 0;
    for node in world.ctx.redis.facts().await.unwrap().nodes {
        let stats: String = ask(&mut world.server(&node.address).await, "INFO errorstats").await.unwrap();
        n_refused += usize::from(stats.contains("errorstat_MOVED"));
    }
    assert_eq!(n_refused, 0);
}

#[tokio::test]
#[ignore = "starts six servers: infra/local/failover"]
async fn every_server_is_looked_at() {
    let world = World::new(RedisTopology::cluster()).await;
    let facts = world.ctx.redis.facts().await.unwrap();
    assert_eq!((facts.topology, facts.nodes.len()), (Topology::Cluster, 6));
    let is_role = |role| facts.nodes.iter().filter(|node| node.answer.as_ref().unwrap().role == role).count();
    assert_eq!((is_role(Role::Master), is_role(Role::Replica)), (3, 3));
    // Nodes tell of replicas once these have heard something.
    until("all are seen", async || world.ctx.redis.seen().as_deref() == Some("cluster, 3 masters, 3 replicas")).await;
    world.ctx.redis.ping().await.unwrap();
    let replica = &facts.nodes[5].address;
    let () = ask(&mut world.server(replica).await, "CONFIG SET maxmemory-policy allkeys-lru").await.unwrap();
    let refusal = world.ctx.redis.refuse_eviction(false).await.unwrap_err();
    assert!(format!("{refusal:?}").contains(replica), "{refusal:?}");
}
