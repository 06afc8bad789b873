//! Orders for connections, given anywhere and carried out wherever the connection is; and the end of a process.

use super::{
    channels::{next_publication, open_app, subscribed},
    client::Socket,
};
use crate::{
    auth::{register, token},
    support::TestApp,
};
use serde_json::json;
use shared::channels::{Addressee, ChannelName, Control, ServerSubscription, control, sessions};
use std::time::Duration;

async fn client(app: &TestApp) -> (Socket, Addressee) {
    let mut socket = Socket::open(app).await;
    let client = socket.ask("connect", json!({})).await.unwrap()["client"].as_str().unwrap().to_owned();
    (socket, Addressee { user: None, client: Some(client) })
}

#[tokio::test]
async fn a_client_is_disconnected_with_the_code_and_reason_of_the_order() {
    let app = open_app().await;
    let ((mut ordered, to), (mut neighbour, _)) = (client(&app).await, client(&app).await);
    control(&app.state.ctx, &Control::Disconnect { to, code: 4_100, reason: "go away".to_owned(), except: Vec::new() }).await.unwrap();
    assert_eq!(ordered.closed().await, 4_100);
    neighbour.ask("rpc", json!({"method": "time"})).await.unwrap();
}

#[tokio::test]
async fn all_connections_of_a_user_are_disconnected_but_those_that_are_excepted() {
    let app = TestApp::start().await;
    let twin = app.twin(&[]).await;
    let (ada, bob) = (register(&app, "ada@example.org").await, register(&app, "bob@example.org").await);
    let (mut here, mut there) = (Socket::signed_in(&app, token(&ada)).await, Socket::signed_in(&twin, token(&ada)).await);
    let mut kept = Socket::open(&app).await;
    let client = kept.ask("connect", json!({"token": token(&ada)})).await.unwrap()["client"].as_str().unwrap().to_owned();
    let mut neighbour = Socket::signed_in(&app, token(&bob)).await;
    let to = Addressee { user: ada["user"]["id"].as_str().map(str::to_owned), client: None };
    let order = Control::Disconnect { to, code: 4_501, reason: "one at a time".to_owned(), except: vec![client] };
    control(&app.state.ctx, &order).await.unwrap();
    assert_eq!((here.closed().await, there.closed().await), (4_501, 4_501));
    for socket in [&mut kept, &mut neighbour] {
        socket.ask("rpc", json!({"method": "time"})).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_is_subscribed_and_unsubscribed_by_orders() {
    let app = open_app().await;
    let (mut socket, to) = client(&app).await;
    let channel = ChannelName::new("chat:1").unwrap();
    let data = serde_json::value::to_raw_value(&json!({"why": "lobby"})).unwrap();
    let subscription = ServerSubscription { channel: channel.clone(), chan_info: None, data: Some(data.into()) };
    sessions::subscribe(&app.state.ctx, to.clone(), &subscription).await.unwrap();
    let push = socket.next_push().await;
    assert_eq!(
        (&push["channel"], &push["subscribe"]["recoverable"], &push["subscribe"]["data"]),
        (&json!("chat:1"), &json!(true), &json!({"why": "lobby"}))
    );
    socket.ask("publish", json!({"channel": "chat:1", "data": 1})).await.unwrap();
    assert_eq!(next_publication(&mut socket, "chat:1").await, (json!(1), 1));
    sessions::unsubscribe(&app.state.ctx, to, channel, 2_000, "moderated".to_owned()).await.unwrap();
    assert_eq!(socket.next_push().await["unsubscribe"], json!({"code": 2000, "reason": "moderated"}));
}

#[tokio::test]
async fn an_expired_client_is_closed_by_order() {
    let app = open_app().await;
    let (mut socket, to) = client(&app).await;
    control(&app.state.ctx, &Control::Refresh { to, expired: true, expires_at: None }).await.unwrap();
    assert_eq!(socket.closed().await, 3005);
}

#[tokio::test]
async fn a_drain_closes_every_socket_and_ends_when_nobody_sees_them_any_more() {
    let app = open_app().await;
    let twin = app.twin(&[("REALTIME_INSECURE", "on")]).await;
    let mut sockets = Vec::new();
    for _ in 0..50 {
        sockets.push(subscribed(&app, "chat:1").await);
    }
    let mut watcher = subscribed(&twin, "chat:1").await;
    app.state.drain.begin();
    let sockets_of_app = app.state.sockets.clone();
    let draining = tokio::spawn(async move { sockets_of_app.drain(Duration::from_millis(300)).await });
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, 3001);
    }
    drop(sockets);
    draining.await.unwrap();
    assert_eq!(app.state.sockets.n_open(), 0);
    assert_eq!(watcher.ask("presence_stats", json!({"channel": "chat:1"})).await.unwrap()["num_clients"], 1);
}
