//! Who is there: lists, counts, joins and leaves.

use super::client::Socket;
use crate::{
    auth::{register, token},
    support::TestApp,
};
use serde_json::{Value, json};

async fn client_in_chat(app: &TestApp, token: &str) -> (Socket, String) {
    let mut socket = Socket::open(app).await;
    let client = socket.ask("connect", json!({"token": token})).await.unwrap()["client"].as_str().unwrap().to_owned();
    socket.ask("subscribe", json!({"channel": "chat:1", "join_leave": true})).await.unwrap();
    (socket, client)
}

/// Asks until so many are there.
async fn until_present(socket: &mut Socket, num_clients: u64) {
    while socket.ask("presence_stats", json!({"channel": "chat:1"})).await.unwrap()["num_clients"] != num_clients {
        tokio::task::yield_now().await;
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

#[tokio::test]
async fn presence_of_a_channel_without_it_is_not_available_and_of_another_not_permitted() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let mut socket = Socket::signed_in(&app, token(&session)).await;
    assert_eq!(socket.ask("presence", json!({"channel": "chat:1"})).await.unwrap_err()["code"], 103);
    let ours = format!("user:#{}", session["user"]["id"].as_str().unwrap());
    assert_eq!(socket.ask("presence", json!({"channel": ours})).await.unwrap_err()["code"], 108);
}
