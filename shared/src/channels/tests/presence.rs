//! Who is present, counted and told, and that nobody stays who has died.

use super::*;
use crate::channels::{Delivery, Link, presence::*};
use futures_util::future;
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::timeout};

fn client(user: &str, client: &str) -> ClientInfo {
    let conn_info = Some(json("{\"n\":\n\"1:2\"}").into());
    ClientInfo { user: user.into(), client: client.into(), conn_info, chan_info: None }
}

impl Channels {
    async fn listed(&self, channel: &Channel) -> Vec<String> {
        let mut clients: Vec<_> = list(&self.ctx, &Reader::Process, channel).await.unwrap().keys().map(ToString::to_string).collect();
        clients.sort_unstable();
        clients
    }

    async fn counted(&self, channel: &Channel) -> (u64, u64) {
        let stats = stats(&self.ctx, channel).await.unwrap();
        (stats.num_clients, stats.num_users)
    }

    /// As if all who are present had not been refreshed for as long as that takes.
    async fn let_expire(&self, channel: &Channel, clients: &[&str]) {
        let [_, until, _] = self.ctx.keys.channel_presence(channel.name.as_str());
        for client in clients {
            redis::cmd("ZADD").arg(&until).arg("XX").arg(1).arg(client).exec_async(&mut self.ctx.redis.connection()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn clients_come_and_go_and_users_are_counted_once() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    for (user, id) in [("7", "a"), ("7", "b"), ("", "c"), ("8:x", "d"), ("7", "a")] {
        join(&channels.ctx, &kept, &client(user, id)).await.unwrap();
    }
    assert_eq!((channels.counted(&kept).await, channels.listed(&kept).await.len()), ((4, 3), 4));
    leave(&channels.ctx, &kept, "a").await.unwrap();
    assert_eq!(channels.counted(&kept).await, (3, 3));
    leave(&channels.ctx, &kept, "b").await.unwrap();
    leave(&channels.ctx, &kept, "b").await.unwrap();
    assert_eq!((channels.counted(&kept).await, channels.listed(&kept).await), ((2, 2), vec!["c".to_owned(), "d".to_owned()]));
    let infos = list(&channels.ctx, &Reader::Process, &kept).await.unwrap();
    assert_eq!(infos["d"].get(), r#"{"user":"8:x","client":"d","conn_info":{"n": "1:2"}}"#);
}

#[tokio::test]
async fn who_is_not_refreshed_is_gone_and_who_is_forgotten_comes_back() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    for id in ["a", "b"] {
        join(&channels.ctx, &kept, &client("7", id)).await.unwrap();
    }
    channels.let_expire(&kept, &["a"]).await;
    assert_eq!((channels.counted(&kept).await, channels.listed(&kept).await), ((1, 1), vec!["b".to_owned()]));
    let present = [(kept.clone(), ["a", "b", "left"].map(Arc::from).to_vec()), (channels.channel("public:1"), vec!["a".into()])];
    let forgotten = refresh(&channels.ctx, &present).await.unwrap();
    let forgotten: Vec<_> = forgotten.into_iter().map(|(channel, clients)| (channel.name, clients)).collect();
    assert_eq!(forgotten, [(kept.name.clone(), vec!["a".to_owned(), "left".to_owned()])]);
    join_all(&channels.ctx, &kept, &[client("7", "a")]).await.unwrap();
    assert_eq!((channels.counted(&kept).await, channels.listed(&kept).await), ((2, 1), vec!["a".to_owned(), "b".to_owned()]));
    assert!(refresh(&channels.ctx, &present[1..]).await.unwrap().is_empty());
}

async fn told(deliveries: &mut mpsc::Receiver<Vec<Delivery>>, n: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < n {
        let batch = timeout(Duration::from_secs(30), deliveries.recv()).await.expect("it is told").expect("the link goes on");
        told.extend(batch.into_iter().map(|delivery| {
            let (sign, info) = match delivery {
                Delivery::Join { info, .. } => ('+', info),
                Delivery::Leave { info, .. } => ('-', info),
                Delivery::Publication { .. } | Delivery::Control(_) | Delivery::Lost | Delivery::Restored => panic!("{delivery:?}"),
            };
            format!("{sign}{}", serde_json::from_slice::<ClientInfo>(&info).unwrap().client)
        }));
    }
    told
}

#[tokio::test]
async fn joins_and_leaves_are_told_once_and_so_are_those_who_died() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    let (link, mut deliveries) = Link::start(channels.ctx.clone());
    link.subscribe(vec![kept.name.clone()]).await.unwrap();
    for id in ["a", "b", "a"] {
        join(&channels.ctx, &kept, &client("7", id)).await.unwrap();
    }
    leave(&channels.ctx, &kept, "a").await.unwrap();
    leave(&channels.ctx, &kept, "a").await.unwrap();
    channels.let_expire(&kept, &["b"]).await;
    channels.counted(&kept).await;
    channels.counted(&kept).await;
    join(&channels.ctx, &kept, &client("7", "c")).await.unwrap();
    assert_eq!(told(&mut deliveries, 5).await, ["+a", "+b", "-a", "-b", "+c"]);
}

#[tokio::test]
async fn a_namespace_without_presence_has_none() {
    let channels = Channels::open().await;
    let public = channels.channel("public:1");
    join(&channels.ctx, &public, &client("7", "a")).await.unwrap();
    leave(&channels.ctx, &public, "a").await.unwrap();
    assert!(matches!(stats(&channels.ctx, &public).await, Err(ChannelError::NotAvailable)));
    assert!(matches!(list(&channels.ctx, &Reader::Process, &public).await, Err(ChannelError::NotAvailable)));
}

#[tokio::test]
async fn many_clients_are_counted_and_refused_as_a_list() {
    let channels = Channels::open().await;
    let live = channels.channel("live:1");
    let ids: Vec<String> = (0..=PRESENCE_LIST_MAX).map(|n| n.to_string()).collect();
    let clients = ids.iter().map(|id| client(&format!("u{}", id.len()), id)).collect::<Vec<_>>();
    join_all(&channels.ctx, &live, &clients).await.unwrap();
    assert_eq!(channels.counted(&live).await, (5_001, 4));
    assert!(matches!(list(&channels.ctx, &Reader::Process, &live).await, Err(ChannelError::LimitExceeded(_))));
    leave_all(&channels.ctx, &live, &clients.into_iter().map(|info| info.client).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(channels.counted(&live).await, (0, 0));
}

#[tokio::test]
async fn large_infos_are_counted_and_refused_as_a_list() {
    let channels = Channels::open().await;
    let live = channels.channel("live:1");
    let info = |n: usize, bytes: usize| ClientInfo {
        conn_info: Some(json(&format!("{:?}", "x".repeat(bytes))).into()),
        ..client("7", &format!("{n:03}"))
    };
    let around = info(0, 0).to_json().len() + 3;
    let clients: Vec<_> = (0..64).map(|n| info(n, PRESENCE_LIST_BYTES_MAX / 64 - around)).collect();
    join_all(&channels.ctx, &live, &clients).await.unwrap();
    assert_eq!(channels.listed(&live).await.len(), 64);
    join(&channels.ctx, &live, &info(63, PRESENCE_LIST_BYTES_MAX / 64 - around + 1)).await.unwrap();
    assert!(matches!(list(&channels.ctx, &Reader::Process, &live).await, Err(ChannelError::LimitExceeded(_))));
    assert_eq!(channels.counted(&live).await, (64, 1));
    leave(&channels.ctx, &live, "000").await.unwrap();
    assert_eq!(channels.listed(&live).await.len(), 63);
}

#[tokio::test]
async fn all_who_ask_before_a_list_is_read_get_the_same() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    join(&channels.ctx, &kept, &client("7", "a")).await.unwrap();
    let lists = future::try_join_all((0..50).map(|_| list(&channels.ctx, &Reader::Process, &kept))).await.unwrap();
    let read: BTreeSet<_> = lists.iter().map(Arc::as_ptr).collect();
    assert!(read.len() <= 2, "{} were read, where the others had asked before the second was begun", read.len());
    assert!(lists.iter().all(|list| list.contains_key("a")));
}

#[tokio::test]
async fn who_asks_is_not_told_what_was_read_before() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    let mut before = Box::pin(list(&channels.ctx, &Reader::Process, &kept));
    assert!(futures_util::poll!(&mut before).is_pending());
    join(&channels.ctx, &kept, &client("7", "a")).await.unwrap();
    let (before, after) = future::try_join(before, list(&channels.ctx, &Reader::Process, &kept)).await.unwrap();
    assert!(!Arc::ptr_eq(&before, &after) && after.contains_key("a"), "a client that is present finds itself");
}

#[tokio::test]
async fn long_lists_are_read_in_slices_and_whole() {
    let channels = Channels::open().await;
    let live = channels.channel("live:1");
    let clients: Vec<_> = (0..3_000).map(|n| client(&n.to_string(), &format!("c{n}"))).collect();
    join_all(&channels.ctx, &live, &clients).await.unwrap();
    let list = list(&channels.ctx, &Reader::Process, &live).await.unwrap();
    assert!(clients.iter().all(|client| list[&client.client].get() == client.to_json()) && list.len() == clients.len());
}

/// Whatever comes and goes, in whichever order and at once, the counts are those of the list.
#[tokio::test]
async fn counts_and_list_agree_after_any_life() {
    let channels = Channels::open().await;
    let mut runner = prop::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec((0u8..3, 0u8..4, 0u8..3), 1..30);
    for round in 0..12 {
        let live = channels.channel(&format!("live:{round}"));
        let steps = prop::strategy::ValueTree::current(&strategy.new_tree(&mut runner).unwrap());
        let mut model = std::collections::BTreeMap::new();
        for (step, id, user) in steps {
            let (id, user) = (format!("c{id}"), format!("u{user}"));
            match step {
                0 => {
                    join(&channels.ctx, &live, &client(&user, &id)).await.unwrap();
                    model.insert(id, user);
                }
                1 => {
                    leave(&channels.ctx, &live, &id).await.unwrap();
                    model.remove(&id);
                }
                _ => {
                    channels.let_expire(&live, &[&id]).await;
                    model.remove(&id);
                }
            }
        }
        let users: BTreeSet<_> = model.values().collect();
        assert_eq!(channels.counted(&live).await, (model.len() as u64, users.len() as u64));
        assert_eq!(channels.listed(&live).await, model.keys().cloned().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn those_who_come_at_once_are_all_counted() {
    let channels = Channels::open().await;
    let live = channels.channel("live:1");
    let clients: Vec<_> = (0..200).map(|n| client(&format!("u{}", n % 7), &format!("c{n}"))).collect();
    future::join_all(clients.iter().map(|info| join(&channels.ctx, &live, info))).await;
    assert_eq!(channels.counted(&live).await, (200, 7));
}
