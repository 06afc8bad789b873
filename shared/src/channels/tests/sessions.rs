//! What the server subscribes users to, and how many connections they may have.

use super::*;
use crate::channels::{
    Addressee, Control, Delivery, Link, ServerSubscription,
    connections::{self, Entry},
    sessions,
};
use std::sync::Arc;

fn of_user(user: &str) -> Addressee {
    Addressee { user: Some(user.to_owned()), client: None }
}

fn subscription(channel: &str) -> ServerSubscription {
    ServerSubscription { channel: ChannelName::new(channel).unwrap(), chan_info: Some(json("{\"n\":1}").into()), data: None }
}

async fn remembered(channels: &Channels, user: &str) -> Vec<String> {
    let mut names: Vec<_> =
        sessions::remembered(&channels.ctx, user).await.unwrap().iter().map(|entry| entry.channel.to_string()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_users_subscriptions_reach_connections_that_are_and_that_will_be() {
    let channels = Channels::open().await;
    let (_link, mut deliveries) = Link::start(channels.ctx.clone());
    // The link hears orders once it is connected.
    let probe = Control::Refresh { to: of_user("0"), expired: false, expires_at: None };
    while deliveries.try_recv().is_err() {
        control(&channels.ctx, &probe).await.unwrap();
    }
    for channel in ["kept:1", "kept:2"] {
        sessions::subscribe(&channels.ctx, of_user("7"), &subscription(channel)).await.unwrap();
    }
    let one = Addressee { user: Some("7".to_owned()), client: Some("c1".to_owned()) };
    sessions::subscribe(&channels.ctx, one, &subscription("kept:3")).await.unwrap();
    assert_eq!(remembered(&channels, "7").await, ["kept:1", "kept:2"]);
    let entries = sessions::remembered(&channels.ctx, "7").await.unwrap();
    assert_eq!(entries[0].chan_info.as_ref().unwrap().get(), "{\"n\":1}");
    let gone = ChannelName::new("kept:1").unwrap();
    sessions::unsubscribe(&channels.ctx, of_user("7"), gone, 2_000, "over".to_owned()).await.unwrap();
    assert_eq!(remembered(&channels, "7").await, ["kept:2"]);
    assert!(remembered(&channels, "8").await.is_empty());

    let mut orders = Vec::new();
    while orders.len() < 4 {
        let batch = tokio::time::timeout(Duration::from_secs(30), deliveries.recv()).await.expect("an order is heard");
        for delivery in batch.expect("the link goes on") {
            let Delivery::Control(order) = delivery else { panic!("{delivery:?}") };
            match *order {
                Control::Subscribe { channel, .. } => orders.push(format!("+{channel}")),
                Control::Unsubscribe { channel, .. } => orders.push(format!("-{channel}")),
                Control::Refresh { .. } => {}
                Control::Disconnect { .. } => panic!("nobody is disconnected"),
            }
        }
    }
    assert_eq!(orders, ["+kept:1", "+kept:2", "+kept:3", "-kept:1"]);
}

#[tokio::test]
async fn a_user_has_so_many_connections_and_no_more() {
    let channels = Channels::open().await;
    let enter = async |user: &str, client: &str| connections::enter(&channels.ctx, user, client, 2).await.unwrap();
    assert_eq!([enter("7", "a").await, enter("7", "b").await, enter("7", "c").await], [Entry::Entered, Entry::Entered, Entry::Full]);
    assert_eq!([enter("7", "a").await, enter("8", "c").await], [Entry::Entered, Entry::Entered]);
    let a: (Arc<str>, Arc<str>) = ("7".into(), "a".into());
    connections::leave(&channels.ctx, std::slice::from_ref(&a)).await.unwrap();
    assert_eq!([enter("7", "c").await, enter("7", "a").await], [Entry::Entered, Entry::Full]);
    connections::refresh(&channels.ctx, &[a]).await.unwrap();
    assert_eq!([enter("7", "a").await, enter("7", "d").await], [Entry::Entered, Entry::Full]);

    // A process that dies takes its connections along after a while.
    let key = channels.ctx.keys.user_connections("7");
    for client in ["a", "b", "c"] {
        redis::cmd("ZADD").arg(&key).arg(1).arg(client).exec_async(&mut channels.ctx.redis.connection()).await.unwrap();
    }
    assert_eq!(enter("7", "d").await, Entry::Entered);
}
