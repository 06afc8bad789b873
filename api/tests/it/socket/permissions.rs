//! Who may do what on which channel, as the shipped namespaces have it.

use super::client::Socket;
use crate::{
    auth::{register, register_admin, token},
    support::TestApp,
};
use serde_json::{Value, json};

async fn code(socket: &mut Socket, method: &str, request: Value) -> u64 {
    match socket.ask(method, request).await {
        Ok(_) => 0,
        Err(error) => error["code"].as_u64().unwrap(),
    }
}

#[tokio::test]
async fn anonymous_connections_hear_public_channels_and_do_nothing_else() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on")]).await;
    let mut socket = Socket::anonymous(&app).await;
    assert_eq!(code(&mut socket, "subscribe", json!({"channel": "public:news"})).await, 0);
    assert_eq!(code(&mut socket, "history", json!({"channel": "public:news"})).await, 0);
    for (method, channel) in [("subscribe", "chat:1"), ("publish", "public:news"), ("history", "chat:1"), ("subscribe", "system")] {
        assert_eq!(code(&mut socket, method, json!({"channel": channel, "data": 1})).await, 103, "{method} {channel}");
    }
}

#[tokio::test]
async fn subscribers_of_a_chat_publish_and_read_and_others_do_not() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let mut socket = Socket::signed_in(&app, token(&session)).await;
    assert_eq!(code(&mut socket, "publish", json!({"channel": "chat:1", "data": 1})).await, 103);
    assert_eq!(code(&mut socket, "history", json!({"channel": "chat:1"})).await, 103);
    assert_eq!(code(&mut socket, "subscribe", json!({"channel": "chat:1"})).await, 0);
    assert_eq!(code(&mut socket, "publish", json!({"channel": "chat:1", "data": 1})).await, 0);
    let push = socket.next_push().await;
    assert_eq!(push["pub"]["info"]["user"], session["user"]["id"]);
    assert_eq!(code(&mut socket, "history", json!({"channel": "chat:1", "limit": 1})).await, 0);
}

#[tokio::test]
async fn a_personal_channel_is_its_users_and_the_channel_of_all_is_the_admins_to_publish_on() {
    let app = TestApp::start().await;
    let (ada, bob, admin) = (register(&app, "ada@example.org").await, register(&app, "bob@example.org").await, register_admin(&app).await);
    let ours = format!("user:#{}", ada["user"]["id"].as_str().unwrap());
    let mut stranger = Socket::signed_in(&app, token(&bob)).await;
    assert_eq!(code(&mut stranger, "subscribe", json!({"channel": ours})).await, 103);
    assert_eq!(code(&mut stranger, "subscribe", json!({"channel": "system"})).await, 0);
    assert_eq!(code(&mut stranger, "publish", json!({"channel": "system", "data": 1})).await, 103);
    let mut admin = Socket::signed_in(&app, token(&admin)).await;
    assert_eq!(code(&mut admin, "publish", json!({"channel": "system", "data": "hello"})).await, 0);
    assert_eq!(stranger.next_push().await["pub"]["data"], "hello");
}
