//! What goes missing between Redis and a client: it is announced, never silent; and who does not read harms nobody else.

use super::{
    channels::{next_publication, open_app, subscribed},
    client::Socket,
};
use crate::support::TestApp;
use serde_json::{Value, json};
use shared::testing::RedisServer;

/// Sends to the thread's ears what no script of ours sent.
async fn forge(app: &TestApp, payload: &str) {
    let ctx = &app.state.ctx;
    let mut cmd = redis::cmd("PUBLISH");
    cmd.arg(ctx.keys.channel("chat:1")).arg(payload).exec_async(&mut ctx.redis.connection()).await.unwrap();
}

#[tokio::test]
async fn a_gap_ends_the_subscription_so_that_the_client_recovers() {
    let app = open_app().await;
    let mut socket = Socket::anonymous(&app).await;
    let epoch = socket.ask("subscribe", json!({"channel": "chat:1"})).await.unwrap()["epoch"].clone();
    let epoch = epoch.as_str().unwrap();
    for (offset, of_epoch) in [(2, epoch), (1, "another")] {
        forge(&app, &format!("p{offset}:{of_epoch}:0:{{\"data\":1}}")).await;
        let push = socket.next_push().await;
        assert_eq!(push, json!({"channel": "chat:1", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}));
        socket.ask("subscribe", json!({"channel": "chat:1", "recover": true, "offset": 0, "epoch": epoch})).await.unwrap();
    }
}

#[tokio::test]
async fn what_comes_twice_is_passed_on_once() {
    let app = open_app().await;
    let mut socket = Socket::anonymous(&app).await;
    let epoch = socket.ask("subscribe", json!({"channel": "chat:1"})).await.unwrap()["epoch"].clone();
    for (offset, data) in [(1, 1), (1, 9), (2, 2)] {
        forge(&app, &format!("p{offset}:{}:0:{{\"data\":{data}}}", epoch.as_str().unwrap())).await;
    }
    assert_eq!(next_publication(&mut socket, "chat:1").await, (json!(1), 1));
    assert_eq!(next_publication(&mut socket, "chat:1").await, (json!(2), 2));
}

/// Follows the channel up to `last`, recovering whenever it is told to; every offset comes once, in order.
async fn follow(mut socket: Socket, epoch: String, last: u64) -> usize {
    let (mut seen, mut n_recoveries) = (0, 0);
    let take = |publication: &Value, seen: &mut u64| {
        assert_eq!(publication["offset"], *seen + 1, "nothing is missed in silence");
        *seen += 1;
    };
    while seen < last {
        let push = socket.next_push().await;
        if push.get("pub").is_some() {
            take(&push["pub"], &mut seen);
            continue;
        }
        assert_eq!(push["unsubscribe"]["code"], 2500, "{push}");
        n_recoveries += 1;
        let again = json!({"channel": "chat:1", "recover": true, "offset": seen, "epoch": epoch});
        let result = loop {
            if let Ok(result) = socket.ask("subscribe", again.clone()).await {
                break result;
            }
        };
        assert_eq!(result["recovered"], true);
        for publication in result["publications"].as_array().into_iter().flatten() {
            take(publication, &mut seen);
        }
    }
    n_recoveries
}

#[tokio::test]
async fn publications_lost_with_the_connection_to_redis_are_recovered() {
    let redis = RedisServer::start().await;
    let app = TestApp::start_with(&[("REALTIME_INSECURE", "on"), ("REDIS_URL", &redis.url())]).await;
    let mut publisher = Socket::anonymous(&app).await;
    let mut socket = Socket::anonymous(&app).await;
    let result = socket.ask("subscribe", json!({"channel": "chat:1"})).await.unwrap();
    let following = tokio::spawn(follow(socket, result["epoch"].as_str().unwrap().to_owned(), 200));
    for n in 1..=200 {
        if n % 20 == 0 {
            let mut cmd = redis::cmd("CLIENT");
            cmd.arg("KILL").arg("TYPE").arg("pubsub").exec_async(&mut app.state.ctx.redis.connection()).await.unwrap();
        }
        publisher.ask("publish", json!({"channel": "chat:1", "data": n})).await.unwrap();
    }
    following.await.unwrap();
}

#[tokio::test]
async fn a_redis_that_was_killed_comes_back_with_a_gap_that_everybody_is_told_of() {
    let mut redis = RedisServer::start().await;
    let app = TestApp::start_with(&[("REALTIME_INSECURE", "on"), ("REDIS_URL", &redis.url())]).await;
    let mut socket = subscribed(&app, "chat:1").await;
    let mut publisher = Socket::anonymous(&app).await;
    publisher.ask("publish", json!({"channel": "chat:1", "data": 1})).await.unwrap();
    next_publication(&mut socket, "chat:1").await;
    redis.kill();
    let refused = publisher.ask("publish", json!({"channel": "chat:1", "data": 2})).await.unwrap_err();
    assert_eq!((&refused["code"], &refused["temporary"]), (&json!(100), &json!(true)));
    publisher.ask("rpc", json!({"method": "time"})).await.unwrap();
    redis.restart().await;
    assert_eq!(socket.next_push().await["unsubscribe"]["code"], 2500);
    let again = json!({"channel": "chat:1", "recover": true, "offset": 1, "epoch": "before"});
    let result = loop {
        if let Ok(result) = socket.ask("subscribe", again.clone()).await {
            break result;
        }
    };
    assert_eq!((&result["was_recovering"], result.get("recovered")), (&json!(true), None));
    publisher.ask("publish", json!({"channel": "chat:1", "data": 3})).await.unwrap();
    assert_eq!(next_publication(&mut socket, "chat:1").await.0, json!(3));
}

#[tokio::test]
async fn who_does_not_read_is_closed_as_slow_and_the_neighbours_hear_everything() {
    let app = TestApp::start_with(&[("REALTIME_INSECURE", "on"), ("WS_OUTBOX_BYTES", "256KiB"), ("WS_COMMANDS_PER_S", "0")]).await;
    let mut stuck = Socket::narrow(&app).await;
    stuck.ask("connect", json!({})).await.unwrap();
    stuck.ask("subscribe", json!({"channel": "chat:1"})).await.unwrap();
    let mut reader = subscribed(&app, "chat:1").await;
    let mut publisher = Socket::anonymous(&app).await;
    let (data, mut n) = ("x".repeat(60_000), 0);
    // What the kernel takes for the stuck one is a matter of its settings.
    while publisher.ask("presence_stats", json!({"channel": "chat:1"})).await.unwrap()["num_clients"] == 2 {
        n += 1;
        publisher.ask("publish", json!({"channel": "chat:1", "data": data})).await.unwrap();
        assert_eq!(next_publication(&mut reader, "chat:1").await.1, n);
    }
    assert_eq!(stuck.closed().await, 3008);
}

#[tokio::test]
async fn who_never_reads_again_is_cut_off() {
    let app = TestApp::start_with(&[("REALTIME_INSECURE", "on"), ("WS_OUTBOX_BYTES", "128KiB"), ("WS_COMMANDS_PER_S", "0")]).await;
    let _stuck = subscribed(&app, "chat:1").await;
    let mut publisher = Socket::anonymous(&app).await;
    let data = "x".repeat(60_000);
    for _ in 0..300 {
        publisher.ask("publish", json!({"channel": "chat:1", "data": data})).await.unwrap();
    }
    while app.state.sockets.n_open() > 1 {
        tokio::task::yield_now().await;
    }
}

/// A publication that Redis counted and nobody heard, with nothing after it that would tell.
#[tokio::test]
async fn a_loss_that_nothing_tells_of_is_found_by_looking() {
    let app = TestApp::start_with(&[("REALTIME_INSECURE", "on"), ("WS_POSITION_CHECK_S", "1")]).await;
    let mut socket = subscribed(&app, "chat:1").await;
    let ctx = &app.state.ctx;
    let mut cmd = redis::cmd("HINCRBY");
    cmd.arg(ctx.keys.channel_meta("chat:1")).arg("s").arg(1).exec_async(&mut ctx.redis.connection()).await.unwrap();
    assert_eq!(socket.next_push().await["unsubscribe"], json!({"code": 2500, "reason": "insufficient state"}));
}
