//! Who is there: lists, counts, joins and leaves.

use super::client::Socket;
use crate::{
    auth::{register, token},
    channels::fill_presence,
    support::TestApp,
};
use serde_json::{Value, json};
use shared::{
    channels::{Addressee, ChannelName, presence, sessions},
    redis::Connection,
    testing::RedisServer,
};
use std::time::Duration;

async fn client_in_chat(app: &TestApp, token: &str) -> (Socket, String) {
    let mut socket = Socket::open(app).await;
    let client = socket.ask("connect", json!({"token": token})).await.unwrap()["client"].as_str().unwrap().to_owned();
    socket.ask("subscribe", json!({"channel": "chat:1", "join_leave": true})).await.unwrap();
    (socket, client)
}

/// Asks until so many are there.
async fn until_present(socket: &mut Socket, num_clients: u64) {
    while socket.ask("presence_stats", json!({"channel": "chat:1"})).await.unwrap()["num_clients"] != num_clients {
        // A socket may not ask a thousand times a second.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn subscribers_are_listed_and_counted_by_client_and_by_user() {
    let app = TestApp::start().await;
    let (ada, bob) = (register(&app, "ada@example.org").await, register(&app, "bob@example.org").await);
    let (mut first, first_client) = client_in_chat(&app, token(&ada)).await;
    let (_second, second_client) = client_in_chat(&app, token(&ada)).await;
    let (_third, third_client) = client_in_chat(&app, token(&bob)).await;
    until_present(&mut first, 3).await;
    let stats = first.ask("presence_stats", json!({"channel": "chat:1"})).await.unwrap();
    assert_eq!(stats, json!({"num_clients": 3, "num_users": 2}));
    let list = first.ask("presence", json!({"channel": "chat:1"})).await.unwrap();
    let list = list["presence"].as_object().unwrap();
    assert_eq!(list.len(), 3);
    for (client, of) in [(first_client, &ada), (second_client, &ada), (third_client, &bob)] {
        assert_eq!(list[&client], json!({"user": of["user"]["id"], "client": client}));
    }
}

#[tokio::test]
async fn joins_and_leaves_are_told_to_those_who_asked() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let (mut watcher, _) = client_in_chat(&app, token(&session)).await;
    let mut deaf = Socket::signed_in(&app, token(&session)).await;
    deaf.ask("subscribe", json!({"channel": "chat:1"})).await.unwrap();
    let (leaver, client) = client_in_chat(&app, token(&session)).await;
    let (mut polite, polite_client) = client_in_chat(&app, token(&session)).await;
    drop(leaver);
    polite.ask("unsubscribe", json!({"channel": "chat:1"})).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 4 {
        let push = watcher.next_push().await;
        for kind in ["join", "leave"] {
            if let Some(who) = push[kind]["info"]["client"].as_str().filter(|who| [&client, &polite_client].contains(&&(*who).to_owned())) {
                told.push(format!("{kind} {who}"));
            }
        }
    }
    told.sort();
    let mut expected: Vec<_> = [&client, &polite_client].iter().flat_map(|who| [format!("join {who}"), format!("leave {who}")]).collect();
    expected.sort();
    assert_eq!(told, expected);
    deaf.ask("ping", json!({})).await.unwrap();
    assert_eq!(deaf.pushes, Vec::<Value>::new());
}

/// A server on a Redis of its own, which can be held up. Channels `room:` have presence and keep nothing.
async fn app_with_rooms(redis: &RedisServer) -> TestApp {
    let path = std::env::temp_dir().join(format!("millrace-rooms-{}.toml", redis.pid()));
    std::fs::write(&path, "[channels.room]\npresence = true\njoin_leave = \"forced\"\n").unwrap();
    let config_file = path.to_str().unwrap();
    TestApp::start_with(&[("REALTIME_INSECURE", "on"), ("REDIS_URL", &redis.url()), ("CONFIG_FILE", config_file)]).await
}

async fn client_in_room(app: &TestApp) -> (Socket, String) {
    let mut socket = Socket::open(app).await;
    let client = socket.ask("connect", json!({})).await.unwrap()["client"].as_str().unwrap().to_owned();
    socket.ask("subscribe", json!({"channel": "room:1"})).await.unwrap();
    socket.ask("presence_stats", json!({"channel": "room:1"})).await.unwrap();
    (socket, client)
}

/// Whatever writes waits in Redis, for so long or until it is told to go on.
async fn hold_up(app: &TestApp, time_ms: u32) -> Connection {
    let mut connection = app.state.ctx.redis.own_connection(&app.state.ctx.settings()).unwrap();
    redis::cmd("CLIENT").arg("PAUSE").arg(time_ms).arg("WRITE").exec_async(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn nobody_sees_a_client_that_was_told_that_it_is_unsubscribed() {
    let redis = RedisServer::start().await;
    let app = app_with_rooms(&redis).await;
    let (mut socket, client) = client_in_room(&app).await;
    let mut connection = hold_up(&app, 300).await;
    socket.ask("unsubscribe", json!({"channel": "room:1"})).await.unwrap();
    let [present, ..] = app.state.ctx.keys.channel_presence("room:1");
    let is_seen: bool = redis::cmd("HEXISTS").arg(present).arg(client).query_async(&mut connection).await.unwrap();
    assert!(!is_seen);
}

#[tokio::test]
async fn a_late_departure_does_not_take_out_who_has_come_back() {
    let redis = RedisServer::start().await;
    let app = app_with_rooms(&redis).await;
    let ((mut watcher, _), (leaver, _)) = (client_in_room(&app).await, client_in_room(&app).await);
    let (mut restless, client) = client_in_room(&app).await;
    let mut connection = hold_up(&app, 20_000).await;
    drop(leaver);
    while app.state.sockets.n_open() > 2 {
        tokio::task::yield_now().await;
    }
    let left = restless.tell("unsubscribe", json!({"channel": "room:1"})).await;
    let back = restless.tell("subscribe", json!({"channel": "room:1"})).await;
    for _ in 0..10 {
        watcher.ask("rpc", json!({"method": "time"})).await.unwrap();
    }
    redis::cmd("CLIENT").arg("UNPAUSE").exec_async(&mut connection).await.unwrap();
    restless.reply_to(left, "unsubscribe").await.unwrap();
    restless.reply_to(back, "subscribe").await.unwrap();
    while watcher.next_push().await["leave"]["info"]["client"] != *client {}
    let present = restless.ask("presence", json!({"channel": "room:1"})).await.unwrap();
    assert!(present["presence"].get(&client).is_some(), "{present}");
}

/// Sent away, as after a gap, a client subscribes again at once.
#[tokio::test]
async fn who_is_sent_away_and_comes_back_is_seen_again() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let (mut restless, client) = client_in_chat(&app, token(&session)).await;
    for _ in 0..10 {
        let to = Addressee { user: None, client: Some(client.clone()) };
        let channel = ChannelName::new("chat:1").unwrap();
        sessions::unsubscribe(&app.state.ctx, to, channel, 2_500, "come back".to_owned()).await.unwrap();
        while restless.next_push().await.get("unsubscribe").is_none() {}
        restless.ask("subscribe", json!({"channel": "chat:1"})).await.unwrap();
        let present = restless.ask("presence", json!({"channel": "chat:1"})).await.unwrap();
        assert!(present["presence"].get(&client).is_some(), "{present}");
    }
}

#[tokio::test]
async fn those_whom_redis_has_forgotten_are_noted_again() {
    let app = TestApp::start_with(&[("WS_PRESENCE_REFRESH_S", "1")]).await;
    let session = register(&app, "ada@example.org").await;
    let ((mut first, one), (_second, other)) = (client_in_chat(&app, token(&session)).await, client_in_chat(&app, token(&session)).await);
    until_present(&mut first, 2).await;
    let ctx = &app.state.ctx;
    redis::cmd("DEL").arg(&ctx.keys.channel_presence("chat:1")).exec_async(&mut ctx.redis.connection()).await.unwrap();
    until_present(&mut first, 2).await;
    let present = first.ask("presence", json!({"channel": "chat:1"})).await.unwrap();
    assert_eq!(present["presence"][&one], json!({"user": session["user"]["id"], "client": one}));
    assert!(present["presence"].get(&other).is_some());
}

#[tokio::test]
async fn who_reconnects_before_the_last_connection_is_counted_out_is_let_in() {
    let app = TestApp::start_with(&[("WS_MAX_CONNECTIONS_PER_USER", "1")]).await;
    let session = register(&app, "ada@example.org").await;
    let ctx = &app.state.ctx;
    let connections = ctx.keys.user_connections(session["user"]["id"].as_str().unwrap());
    // One that another process has not noticed the end of, and one that goes when somebody counts.
    let mut redis = ctx.redis.connection();
    let mut cmd = redis::cmd("ZADD");
    cmd.arg(&connections).arg(i64::MAX / 1_000_000).arg("last").arg(1).arg("expired").exec_async(&mut redis).await.unwrap();
    let mut socket = Socket::open(&app).await;
    let id = socket.tell("connect", json!({"token": token(&session)})).await;
    while redis::cmd("ZCARD").arg(&connections).query_async::<u32>(&mut redis).await.unwrap() > 1 {
        tokio::task::yield_now().await;
    }
    redis::cmd("ZREM").arg(&connections).arg("last").exec_async(&mut redis).await.unwrap();
    socket.reply_to(id, "connect").await.unwrap();
    let mut refused = Socket::open(&app).await;
    refused.tell("connect", json!({"token": token(&session)})).await;
    assert_eq!(refused.closed().await, 3504);
}

#[tokio::test]
async fn presence_of_a_channel_without_it_is_not_available_and_of_another_not_permitted() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let mut socket = Socket::signed_in(&app, token(&session)).await;
    assert_eq!(socket.ask("presence", json!({"channel": "chat:1"})).await.unwrap_err()["code"], 103);
    let ours = format!("user:#{}", session["user"]["id"].as_str().unwrap());
    assert_eq!(socket.ask("presence", json!({"channel": ours})).await.unwrap_err()["code"], 108);
}

#[tokio::test]
async fn a_list_that_is_too_large_is_refused_and_the_socket_goes_on() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let mut socket = Socket::open(&app).await;
    socket.ask("connect", json!({"token": token(&session)})).await.unwrap();
    // Without the joins, which nobody would read while the list is filled.
    socket.ask("subscribe", json!({"channel": "chat:1"})).await.unwrap();
    fill_presence(&app.state.ctx, "chat:1").await;
    assert_eq!(socket.ask("presence", json!({"channel": "chat:1"})).await.unwrap_err()["code"], 106);
    until_present(&mut socket, 65).await;
    let full = app.state.ctx.namespaces.resolve("chat:1").unwrap();
    presence::leave(&app.state.ctx, &full, "full0").await.unwrap();
    let list = socket.ask("presence", json!({"channel": "chat:1"})).await.unwrap();
    assert_eq!(list["presence"].as_object().unwrap().len(), 64);
}
