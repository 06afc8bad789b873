//! Sockets that ask for much and read nothing, of a process of its own: what waits for them is bounded, and counted.

use super::{client::Socket, tokens::sign};
use crate::{process::ApiProcess, support::TestApp};
use serde_json::{Value, json};
use shared::testing::MetricsPage;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A channel whose history is as large as one answer may be.
const CHANNEL: &str = "chat:1";
const MIB: f64 = 1_048_576.0;

/// With one thread, so that all sockets are of the same.
async fn start(overrides: &[(&str, &str)]) -> (TestApp, ApiProcess) {
    let app = TestApp::start().await;
    let settings = [
        ("API_WORKERS", "1"),
        ("METRICS", "public"),
        ("REALTIME_INSECURE", "on"),
        ("WS_OUTBOXES_MAX_BYTES", "8MiB"),
        ("WS_COMMANDS_PER_S", "0"),
        // Nobody who reads nothing answers one.
        ("WS_PING_S", "3600"),
    ];
    let process = ApiProcess::start_with(&app, &[&settings, overrides].concat()).await;
    (app, process)
}

async fn connected(mut socket: Socket, user: &str) -> Socket {
    socket.ask("connect", json!({"token": sign(&json!({"sub": user}))})).await.unwrap();
    socket
}

async fn reader(process: &ApiProcess, user: &str) -> Socket {
    connected(Socket::open_at(process.address).await, user).await
}

/// For a client whose system takes little.
async fn narrow(process: &ApiProcess, user: &str) -> Socket {
    connected(Socket::narrow_at(process.address).await, user).await
}

async fn publish(publisher: &mut Socket, channel: &str) {
    publisher.ask("publish", json!({"channel": channel, "data": "x".repeat(60_000)})).await.unwrap();
}

async fn fill_history(process: &ApiProcess) {
    let mut publisher = reader(process, "ada").await;
    for _ in 0..17 {
        publish(&mut publisher, CHANNEL).await;
    }
}

fn history() -> Value {
    json!({"channel": CHANNEL, "limit": 300})
}

/// Asks for the history until the systems of both take no more of it, and reads nothing. No further: who does is closed.
async fn stuck(process: &ApiProcess, user: &str) -> Socket {
    let mut socket = narrow(process, user).await;
    let begun = page(process).await;
    loop {
        let before = page(process).await;
        socket.tell("history", history()).await;
        let is_done = |page: &MetricsPage| refused(page) > refused(&before) || written(page) > written(&before) + 0.8 * MIB;
        told(process, is_done).await;
        let after = page(process).await;
        if refused(&after) > refused(&begun) || waiting(&after) > waiting(&begun) {
            return socket;
        }
    }
}

fn waiting(page: &MetricsPage) -> f64 {
    page.sum("ws_outbox_bytes", &[]).unwrap_or_default()
}

/// To sockets, or to their outboxes.
fn written(page: &MetricsPage) -> f64 {
    page.sum("ws_sent_bytes_total", &[]).unwrap_or_default() + waiting(page)
}

fn refused(page: &MetricsPage) -> f64 {
    page.sum("ws_answers_refused_total", &[]).unwrap_or_default()
}

async fn page(process: &ApiProcess) -> MetricsPage {
    let answer = reqwest::get(process.url.replace("/api/v1", "/metrics")).await.unwrap();
    let page = MetricsPage::read(&answer.text().await.unwrap());
    let taken = page.sum("ws_outbox_memory_bytes", &[]);
    assert!(taken <= Some(8.0 * MIB), "more waits than may: {taken:?}");
    page
}

/// Asks for the metrics until they are as they should be.
async fn told(process: &ApiProcess, is_it: impl Fn(&MetricsPage) -> bool) {
    let asking = async {
        while !is_it(&page(process).await) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), asking).await.expect("it comes to pass");
}

/// Nobody is connected, and nothing waits.
async fn ended(process: &ApiProcess) {
    let names = ["ws_connections", "ws_outbox_bytes", "ws_outbox_memory_bytes"];
    told(process, |page| names.iter().all(|name| page.sum(name, &[]) == Some(0.0))).await;
}

#[tokio::test]
async fn what_waited_for_a_socket_that_is_gone_counts_no_more() {
    let (_app, process) = start(&[]).await;
    fill_history(&process).await;
    let stuck = stuck(&process, "eve").await;
    told(&process, |page| page.sum("ws_outbox_bytes", &[]) > Some(0.0)).await;
    drop(stuck);
    ended(&process).await;
}

#[tokio::test]
async fn one_user_who_reads_nothing_leaves_room_for_the_histories_of_others() {
    let (_app, process) = start(&[]).await;
    fill_history(&process).await;
    let mut eves = Vec::new();
    while refused(&page(&process).await) == 0.0 {
        eves.push(stuck(&process, "eve").await);
    }
    assert!(page(&process).await.sum("ws_outbox_memory_bytes", &[]) > Some(4.0 * MIB), "that is why");

    let mut eve = reader(&process, "eve").await;
    let refused = eve.ask("history", history()).await.unwrap_err();
    assert_eq!(refused, json!({"code": 100, "message": "overloaded", "temporary": true}));
    eve.ask("rpc", json!({"method": "time"})).await.unwrap();
    let epoch = eve.ask("subscribe", json!({"channel": CHANNEL})).await.unwrap()["epoch"].take();
    eve.ask("unsubscribe", json!({"channel": CHANNEL})).await.unwrap();
    let missed = json!({"channel": CHANNEL, "recover": true, "offset": 1, "epoch": epoch});
    assert_eq!(eve.ask("subscribe", missed.clone()).await.unwrap_err()["code"], 100);
    // Nothing of it is left: it may be asked for again.
    assert_eq!(eve.ask("subscribe", missed).await.unwrap_err()["code"], 100);

    let mut ada = reader(&process, "ada").await;
    for _ in 0..3 {
        assert_eq!(ada.ask("history", history()).await.unwrap()["publications"].as_array().unwrap().len(), 17);
    }
    drop((eves, eve, ada));
    ended(&process).await;
}

#[tokio::test]
async fn who_does_not_read_channels_of_their_own_is_closed_when_all_of_them_have_too_much() {
    let (_app, process) = start(&[("WS_OUTBOX_BYTES", "8MiB"), ("CHANNEL_LAYER_CAPACITY", "100000")]).await;
    let channels = [10, 11, 12, 13].map(|n| format!("chat:{n}"));
    let mut eves = Vec::new();
    for channel in &channels {
        let mut eve = narrow(&process, "eve").await;
        eve.ask("subscribe", json!({"channel": channel})).await.unwrap();
        eves.push(eve);
    }
    let (mut publisher, mut ada) = (reader(&process, "bob").await, reader(&process, "ada").await);
    ada.ask("subscribe", json!({"channel": CHANNEL})).await.unwrap();
    // Each alone may have as much as there is.
    while page(&process).await.sum("ws_closed_total", &[("code", "3008")]).is_none() {
        for channel in &channels {
            publish(&mut publisher, channel).await;
        }
        publish(&mut publisher, CHANNEL).await;
        assert!(ada.next_push().await.get("pub").is_some());
    }
    drop((eves, publisher, ada));
    ended(&process).await;
}

#[tokio::test]
async fn what_waits_for_many_counts_once() {
    let (_app, process) = start(&[("WS_OUTBOX_BYTES", "4MiB")]).await;
    let mut readers = Vec::new();
    for _ in 0..8 {
        let mut reader = narrow(&process, "eve").await;
        reader.ask("subscribe", json!({"channel": CHANNEL})).await.unwrap();
        readers.push(reader);
    }
    let mut publisher = reader(&process, "bob").await;
    let last = loop {
        publish(&mut publisher, CHANNEL).await;
        let page = page(&process).await;
        if page.sum("ws_outbox_bytes", &[]) > Some(9.0 * MIB) {
            break page;
        }
    };
    assert!(last.sum("ws_outbox_memory_bytes", &[]) < Some(5.0 * MIB));
    assert_eq!(last.sum("ws_closed_total", &[("code", "3008")]), None);
    drop((readers, publisher));
    ended(&process).await;
}
