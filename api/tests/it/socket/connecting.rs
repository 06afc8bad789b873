//! `connect`, and what ends a connection that does not keep to the protocol.

use super::client::{Received, Socket};
use crate::{
    auth::{register, token},
    support::TestApp,
};
use rstest::rstest;
use serde_json::json;

#[tokio::test]
async fn a_connection_without_a_token_is_anonymous_where_that_is_allowed() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on"), ("WS_PING_S", "20")]).await;
    let mut socket = Socket::open(&app).await;
    let connected = socket.ask("connect", json!({"name": "js", "version": "1.2"})).await.unwrap();
    assert!(uuid::Uuid::parse_str(connected["client"].as_str().unwrap()).is_ok());
    assert_eq!((&connected["ping"], &connected["pong"]), (&json!(20), &json!(true)));
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "off")]).await;
    let mut socket = Socket::open(&app).await;
    socket.tell("connect", json!({})).await;
    assert_eq!(socket.closed().await, 3501);
}

#[rstest]
#[case::no_json("hello")]
#[case::half_an_object("{\"id\":1,")]
#[case::a_list("[]")]
#[case::empty("")]
#[case::a_pong_that_nobody_asked_for("{}")]
#[case::another_command_before_connect(r#"{"id":1,"rpc":{"method":"time"}}"#)]
#[case::connect_without_an_id(r#"{"connect":{}}"#)]
#[case::two_commands_in_one(r#"{"id":1,"connect":{},"ping":{}}"#)]
#[tokio::test]
async fn what_is_no_connect_ends_the_connection(#[case] text: &str) {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on")]).await;
    let mut socket = Socket::open(&app).await;
    socket.send_text(text).await;
    assert_eq!(socket.closed().await, 3501);
}

#[tokio::test]
async fn a_second_connect_ends_the_connection() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on")]).await;
    let mut socket = Socket::anonymous(&app).await;
    socket.tell("connect", json!({})).await;
    assert_eq!(socket.closed().await, 3501);
}

#[tokio::test]
async fn a_forged_token_ends_the_connection_for_good() {
    let app = TestApp::start().await;
    let mut socket = Socket::open(&app).await;
    socket.tell("connect", json!({"token": "eyJhbGciOiJub25lIn0.e30."})).await;
    assert_eq!(socket.closed().await, 3500);
}

#[tokio::test]
async fn who_says_nothing_is_closed_as_stale() {
    let app = TestApp::start_with(&[("WS_CONNECT_TIMEOUT_S", "1")]).await;
    assert_eq!(Socket::open(&app).await.closed().await, 3502);
}

#[tokio::test]
async fn pings_that_are_answered_keep_a_connection_and_the_first_that_is_not_ends_it() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on"), ("WS_PING_S", "2"), ("WS_PONG_S", "1")]).await;
    let mut socket = Socket::anonymous(&app).await;
    for _ in 0..2 {
        assert_eq!(socket.receive().await, Received::Text("{}".to_owned()));
        socket.send_text("{}").await;
    }
    assert_eq!(socket.receive().await, Received::Text("{}".to_owned()));
    assert_eq!(socket.closed().await, 3012);
}

#[tokio::test]
async fn commands_of_one_frame_are_answered_in_order() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on")]).await;
    let mut socket = Socket::open(&app).await;
    let commands = [r#"{"id":1,"connect":{}}"#, r#"{"id":2,"rpc":{"method":"time"}}"#, r#"{"send":{"data":1}}"#, r#"{"id":3,"ping":{}}"#];
    socket.send_text(&commands.join("\n")).await;
    for (id, method) in [(1, "connect"), (2, "rpc"), (3, "ping")] {
        let object = socket.next_object().await;
        assert_eq!(object["id"], id);
        assert!(object.get(method).is_some(), "{object}");
    }
}

#[tokio::test]
async fn what_follows_a_connect_that_was_refused_is_not_looked_at() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    app.state.ctx.clock.advance(time::Duration::minutes(15));
    let mut socket = Socket::open(&app).await;
    let connect = json!({"id": 1, "connect": {"token": token(&session)}});
    socket.send_text(&format!("{connect}\n{}", json!({"id": 2, "rpc": {"method": "time"}}))).await;
    assert_eq!(socket.next_object().await["error"]["code"], 109);
    socket.send_text("{}").await;
    assert_eq!(socket.closed().await, 3501);
}

#[tokio::test]
async fn commands_beyond_the_rate_are_refused_and_a_flood_is_closed() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on"), ("WS_COMMANDS_PER_S", "10"), ("WS_CHANNELS_PER_CLIENT", "1")]).await;
    let mut socket = Socket::anonymous(&app).await;
    let mut refused = None;
    for _ in 0..30 {
        if let Err(error) = socket.ask("ping", json!({})).await {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused.unwrap(), json!({"code": 111, "message": "too many requests", "temporary": true}));
    for _ in 0..100 {
        socket.tell("ping", json!({})).await;
    }
    assert_eq!(socket.closed().await, 3013);
}
