//! Subscribing, publishing, and reading what is kept.

use super::client::{Socket, masked};
use crate::support::TestApp;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// A server where everything is allowed.
pub(crate) async fn open_app() -> TestApp {
    TestApp::start_with(&[("REALTIME_INSECURE", "on")]).await
}

pub(crate) async fn subscribed(app: &TestApp, channel: &str) -> Socket {
    let mut socket = Socket::anonymous(app).await;
    socket.ask("subscribe", json!({"channel": channel})).await.unwrap();
    socket
}

/// The data and offset of the next push, which is a publication on `channel`.
pub(crate) async fn next_publication(socket: &mut Socket, channel: &str) -> (Value, u64) {
    let push = socket.next_push().await;
    assert_eq!(push["channel"], channel, "{push}");
    (push["pub"]["data"].clone(), push["pub"]["offset"].as_u64().unwrap_or_default())
}

#[tokio::test]
async fn a_publication_reaches_every_subscriber_in_order_and_with_its_offset() {
    let app = open_app().await;
    let (mut ada, mut bob) = (subscribed(&app, "chat:1").await, subscribed(&app, "chat:1").await);
    for n in 1..=5 {
        assert_eq!(ada.ask("publish", json!({"channel": "chat:1", "data": {"n": n}})).await.unwrap(), json!({}));
    }
    for n in 1..=5 {
        assert_eq!(next_publication(&mut bob, "chat:1").await, (json!({"n": n}), n));
        assert_eq!(next_publication(&mut ada, "chat:1").await, (json!({"n": n}), n));
    }
}

#[tokio::test]
async fn data_that_would_break_its_readers_is_published_nowhere() {
    let app = open_app().await;
    let mut socket = subscribed(&app, "chat:1").await;
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let unfit = [&*deep, r#""\ud800""#, r#"{"a":"\u0000"}"#, "1e400", &"9".repeat(400)];
    for (data, id) in unfit.into_iter().zip(2..) {
        socket.send_text(&format!(r#"{{"id":{id},"publish":{{"channel":"chat:1","data":{data}}}}}"#)).await;
        let reply = socket.next_object().await;
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!(id), &json!(107)), "{reply}");
        assert!(reply["error"]["message"].as_str().unwrap().starts_with("bad request: data is "), "{reply}");
    }
    socket.send_text(r#"{"id":9,"history":{"channel":"chat:1","limit":10}}"#).await;
    assert_eq!(socket.next_object().await["history"]["publications"], json!([]));
}

#[tokio::test]
async fn what_is_published_in_one_process_is_heard_in_the_other() {
    let app = open_app().await;
    let twin = app.twin(&[("REALTIME_INSECURE", "on"), ("API_WORKERS", "2")]).await;
    let mut listener = subscribed(&app, "chat:1").await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(subscribed(&twin, "chat:1").await);
    }
    others[0].ask("publish", json!({"channel": "chat:1", "data": "over there"})).await.unwrap();
    assert_eq!(next_publication(&mut listener, "chat:1").await, (json!("over there"), 1));
    for other in &mut others {
        assert_eq!(next_publication(other, "chat:1").await, (json!("over there"), 1));
    }
}

#[tokio::test]
async fn an_answer_to_subscribe_says_where_the_channel_stands() {
    let app = open_app().await;
    let mut socket = subscribed(&app, "chat:1").await;
    socket.ask("publish", json!({"channel": "chat:1", "data": 1})).await.unwrap();
    let mut second = Socket::anonymous(&app).await;
    let result = second.ask("subscribe", json!({"channel": "chat:1", "flag": 1})).await.unwrap();
    let epoch = result["epoch"].as_str().unwrap();
    assert_eq!(result, json!({"recoverable": true, "positioned": true, "epoch": epoch, "offset": 1}));
    assert!(!epoch.is_empty());
}

#[tokio::test]
async fn who_unsubscribed_hears_nothing_and_may_do_it_twice() {
    let app = open_app().await;
    let (mut gone, mut here) = (subscribed(&app, "chat:1").await, subscribed(&app, "chat:1").await);
    for _ in 0..2 {
        assert_eq!(gone.ask("unsubscribe", json!({"channel": "chat:1"})).await.unwrap(), json!({}));
    }
    gone.ask("publish", json!({"channel": "chat:1", "data": 1})).await.unwrap();
    next_publication(&mut here, "chat:1").await;
    gone.ask("ping", json!({})).await.unwrap();
    assert!(gone.pushes.is_empty());
    gone.ask("subscribe", json!({"channel": "chat:1"})).await.unwrap();
    here.ask("publish", json!({"channel": "chat:1", "data": 2})).await.unwrap();
    assert_eq!(next_publication(&mut gone, "chat:1").await, (json!(2), 2));
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused_with_its_code() {
    let app = TestApp::start_with(&[("REALTIME_INSECURE", "on"), ("WS_CHANNELS_PER_CLIENT", "2")]).await;
    let mut socket = subscribed(&app, "chat:1").await;
    let mut code = async |channel: &str| socket.ask("subscribe", json!({"channel": channel})).await.map_err(|error| error["code"].clone());
    assert_eq!(code("chat:1").await, Err(json!(105)));
    assert_eq!(code("nowhere:1").await, Err(json!(102)));
    assert_eq!(code("").await, Err(json!(107)));
    assert_eq!(code(&"x".repeat(256)).await, Err(json!(106)));
    assert!(code("chat:2").await.is_ok());
    assert_eq!(code("chat:3").await, Err(json!(106)));
}

#[tokio::test]
async fn ten_thousand_subscribes_are_no_more_than_the_limit() {
    let app = TestApp::start_with(&[("REALTIME_INSECURE", "on"), ("WS_COMMANDS_PER_S", "0"), ("WS_CHANNELS_PER_CLIENT", "16")]).await;
    let mut neighbour = subscribed(&app, "chat:1").await;
    let socket = Socket::anonymous(&app).await;
    let (mut reader, mut writer) = (socket, Vec::new());
    for n in 1..=10_000 {
        writer.extend(masked(0x81, json!({"id": n, "subscribe": {"channel": format!("chat:{n}")}}).to_string().as_bytes()));
    }
    reader.stream.write_all(&writer).await.unwrap();
    let mut n_subscribed = 0;
    for n in 1..=10_000 {
        n_subscribed += usize::from(reader.reply_to(n, "subscribe").await.is_ok());
    }
    assert_eq!(n_subscribed, 16);
    neighbour.ask("rpc", json!({"method": "time"})).await.unwrap();
}

#[tokio::test]
async fn a_publish_without_data_or_to_nowhere_is_refused() {
    let app = open_app().await;
    let mut socket = Socket::anonymous(&app).await;
    let mut code = async |request: Value| socket.ask("publish", request).await.map_err(|error| error["code"].clone());
    assert_eq!(code(json!({"channel": "chat:1"})).await, Err(json!(107)));
    assert_eq!(code(json!({"channel": "nowhere:1", "data": 1})).await, Err(json!(102)));
    assert!(code(json!({"channel": "chat:1", "data": null})).await.is_err());
    assert!(code(json!({"channel": "chat:1", "data": {"a": [1, "\u{e4}\n"]}})).await.is_ok());
}

#[tokio::test]
async fn history_is_read_forwards_backwards_and_from_a_position() {
    let app = open_app().await;
    let mut socket = Socket::anonymous(&app).await;
    for n in 1..=5 {
        socket.ask("publish", json!({"channel": "chat:1", "data": n})).await.unwrap();
    }
    let mut read = async |request: Value| {
        let mut result = socket.ask("history", request).await?;
        assert_eq!(result["offset"], 5);
        let epoch = result["epoch"].take();
        let offsets: Vec<_> = result["publications"].as_array().unwrap().iter().map(|of| of["offset"].as_u64().unwrap()).collect();
        Ok::<_, Value>((offsets, epoch))
    };
    let (none, epoch) = read(json!({"channel": "chat:1"})).await.unwrap();
    assert!(none.is_empty());
    assert_eq!(read(json!({"channel": "chat:1", "limit": -1})).await.unwrap().0, [1, 2, 3, 4, 5]);
    assert_eq!(read(json!({"channel": "chat:1", "limit": 2, "reverse": true})).await.unwrap().0, [5, 4]);
    let since = json!({"offset": 2, "epoch": epoch});
    assert_eq!(read(json!({"channel": "chat:1", "limit": 2, "since": since})).await.unwrap().0, [3, 4]);
    let since = json!({"offset": 2, "epoch": "other"});
    assert_eq!(read(json!({"channel": "chat:1", "limit": 2, "since": since})).await.unwrap_err()["code"], 112);
}
