//! Coming back: what was missed is given, or it is said that it cannot be.

use super::{
    channels::{next_publication, open_app, subscribed},
    client::Socket,
};
use crate::support::TestApp;
use serde_json::{Value, json};

async fn publish(socket: &mut Socket, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        socket.ask("publish", json!({"channel": "chat:1", "data": n})).await.unwrap();
    }
}

/// Where the channel stood when a first client left.
async fn position(app: &TestApp) -> (u64, String) {
    let mut socket = Socket::anonymous(app).await;
    let result = socket.ask("subscribe", json!({"channel": "chat:1"})).await.unwrap();
    (result["offset"].as_u64().unwrap_or_default(), result["epoch"].as_str().unwrap().to_owned())
}

async fn come_back(socket: &mut Socket, offset: u64, epoch: &str) -> Value {
    socket.ask("subscribe", json!({"channel": "chat:1", "recover": true, "offset": offset, "epoch": epoch})).await.unwrap()
}

fn offsets(result: &Value) -> Vec<u64> {
    result["publications"].as_array().into_iter().flatten().map(|publication| publication["offset"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn who_comes_back_gets_what_was_missed_and_goes_on_from_there() {
    let app = open_app().await;
    let mut publisher = Socket::anonymous(&app).await;
    publish(&mut publisher, 1..=3).await;
    let (offset, epoch) = position(&app).await;
    publish(&mut publisher, 4..=6).await;
    let mut socket = Socket::anonymous(&app).await;
    let result = come_back(&mut socket, offset, &epoch).await;
    assert_eq!((&result["recovered"], &result["was_recovering"], &result["offset"]), (&json!(true), &json!(true), &json!(3)));
    assert_eq!(offsets(&result), [4, 5, 6]);
    publish(&mut publisher, 7..=7).await;
    assert_eq!(next_publication(&mut socket, "chat:1").await, (json!(7), 7));
}

#[tokio::test]
async fn who_missed_nothing_is_told_so() {
    let app = open_app().await;
    publish(&mut Socket::anonymous(&app).await, 1..=2).await;
    let (offset, epoch) = position(&app).await;
    for known in [epoch.as_str(), ""] {
        let result = come_back(&mut Socket::anonymous(&app).await, offset, known).await;
        assert_eq!((&result["recovered"], &result["offset"]), (&json!(true), &json!(2)));
        assert!(offsets(&result).is_empty());
    }
}

#[tokio::test]
async fn a_gap_is_always_said() {
    let app = open_app().await;
    let mut publisher = Socket::anonymous(&app).await;
    publish(&mut publisher, 1..=2).await;
    let (offset, epoch) = position(&app).await;
    publish(&mut publisher, 3..=303).await;
    for (offset, epoch) in [(offset, "another"), (offset, epoch.as_str()), (400, epoch.as_str())] {
        let result = come_back(&mut Socket::anonymous(&app).await, offset, epoch).await;
        assert_eq!((result.get("recovered"), &result["was_recovering"], &result["offset"]), (None, &json!(true), &json!(303)));
        assert!(offsets(&result).is_empty());
    }
}

#[tokio::test]
async fn publications_that_come_while_a_subscription_begins_come_once_and_in_order() {
    let app = open_app().await;
    let mut publisher = subscribed(&app, "chat:1").await;
    let (_, epoch) = position(&app).await;
    let publishing = tokio::spawn(async move {
        publish(&mut publisher, 1..=250).await;
    });
    for _ in 0..20 {
        let mut socket = Socket::anonymous(&app).await;
        let result = come_back(&mut socket, 0, &epoch).await;
        assert_eq!(result["recovered"], true);
        let mut expected = 1;
        for offset in offsets(&result) {
            assert_eq!(offset, expected);
            expected += 1;
        }
        while expected <= 250 {
            assert_eq!(next_publication(&mut socket, "chat:1").await.1, expected);
            expected += 1;
            if expected % 50 == 0 {
                break;
            }
        }
    }
    publishing.await.unwrap();
}

#[tokio::test]
async fn who_would_rather_be_refused_than_miss_something_is() {
    let app = open_app().await;
    publish(&mut Socket::anonymous(&app).await, 1..=2).await;
    let (offset, epoch) = position(&app).await;
    let mut socket = Socket::anonymous(&app).await;
    let insist = |epoch: &str| json!({"channel": "chat:1", "recover": true, "offset": offset, "epoch": epoch, "flag": 3});
    assert_eq!(socket.ask("subscribe", insist("another")).await.unwrap_err()["code"], 112);
    assert_eq!(socket.ask("subscribe", insist(&epoch)).await.unwrap()["recovered"], true, "it is not subscribed yet");
}
