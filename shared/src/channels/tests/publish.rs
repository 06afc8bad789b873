//! What a publication is given, and that it is kept and sent once.

use super::*;
use crate::testing::RedisServer;
use futures_util::future::join_all;
use proptest::prelude::*;

async fn all(ctx: &Context, channel: &Channel) -> History {
    history(ctx, &Reader::Process, channel, &Filter { limit: 300, ..Filter::default() }).await.expect("Redis answers")
}

#[tokio::test]
async fn offsets_count_up_from_one_in_an_epoch() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    let nowhere = position(&channels.ctx, &Reader::Process, &kept).await.unwrap();
    let first = channels.publish(&kept, "1").await;
    let second = channels.publish(&kept, "2").await;
    assert_eq!((nowhere.offset, first.offset, second.offset), (0, 1, 2));
    assert!(nowhere.epoch == first.epoch && first.epoch == second.epoch && !first.epoch.is_empty());
    assert_ne!(channels.publish(&channels.channel("kept:2"), "1").await.epoch, first.epoch);
}

#[tokio::test]
async fn publishers_at_once_share_no_offset() {
    let channels = Channels::open().await;
    let long = channels.channel("long:1");
    let published = join_all((0..200).map(|n| channels.publish(&long, if n % 2 == 0 { "0" } else { "1" }))).await;
    let mut offsets: Vec<u64> = published.iter().map(|position| position.offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_body_is_one_line_in_the_shape_of_the_protocol() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    let info = ClientInfo { user: "7".into(), client: "c".into(), conn_info: Some(json("{\"n\":\n1}").into()), chan_info: None };
    let (data, tags) = (json("{\r\n \"a\": \"x\\n\" }"), [("k".to_owned(), "v\"".to_owned())].into());
    let new = NewPublication { info: Some(&info), tags: Some(&tags), ..NewPublication::new(&data).unwrap() };
    publish(&channels.ctx, &kept, &new).await.unwrap();
    let history = all(&channels.ctx, &kept).await;
    let body = r#"{"data":{   "a": "x\n" },"info":{"user":"7","client":"c","conn_info":{"n": 1}},"tags":{"k":"v\""}}"#;
    assert_eq!(bodies(&history.publications), [body]);
}

#[tokio::test]
async fn a_repeated_key_publishes_nothing_and_answers_as_before() {
    let channels = Channels::open().await;
    for (name, offset) in [("kept:1", 1), ("live:1", 0)] {
        let channel = channels.channel(name);
        let (link, mut deliveries) = Link::start(channels.ctx.clone());
        while link.subscribe(vec![channel.name.clone()]).await.is_err() {}
        let data = json("1");
        let new = NewPublication { idempotency_key: Some("once"), ..NewPublication::new(&data).unwrap() };
        let first = publish(&channels.ctx, &channel, &new).await.unwrap();
        assert_eq!(publish(&channels.ctx, &channel, &new).await.unwrap(), first);
        assert_eq!(first.offset, offset);
        channels.publish(&channel, "2").await;
        let mut heard = Vec::new();
        while heard.len() < 2 {
            for delivery in deliveries.recv().await.unwrap() {
                let Delivery::Publication { publication, .. } = delivery else { panic!("{delivery:?}") };
                heard.push(publication.body);
            }
        }
        assert_eq!(heard, [&b"{\"data\":1}"[..], b"{\"data\":2}"], "{name}");
    }
}

#[tokio::test]
async fn what_skips_the_history_has_no_offset_and_takes_none() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    let data = json("0");
    let new = NewPublication { skip_history: true, ..NewPublication::new(&data).unwrap() };
    assert_eq!(publish(&channels.ctx, &kept, &new).await.unwrap(), Position::new(0, ""));
    assert_eq!(channels.publish(&kept, "1").await.offset, 1);
    assert_eq!(bodies(&all(&channels.ctx, &kept).await.publications), ["{\"data\":1}"]);
}

#[tokio::test]
async fn what_is_too_large_or_makes_no_sense_is_refused() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    let large = json(&format!("\"{}\"", "x".repeat(64 << 10)));
    let refused = publish(&channels.ctx, &kept, &NewPublication::new(&large).unwrap()).await;
    assert!(matches!(refused, Err(ChannelError::LimitExceeded(_))), "{refused:?}");
    let data = json("1");
    let refused = publish(&channels.ctx, &kept, &NewPublication { idempotency_key: Some(""), ..NewPublication::new(&data).unwrap() }).await;
    assert!(matches!(refused, Err(ChannelError::BadRequest(_))), "{refused:?}");
}

#[tokio::test]
async fn a_restarted_redis_begins_a_new_epoch_whatever_it_still_holds() {
    let mut stores = TestStores::create().await;
    let mut server = RedisServer::start().await;
    stores.use_redis(&server);
    let channels = Channels { ctx: with_namespaces(stores.context(&[])), stores };
    let kept = channels.channel("kept:1");
    channels.publish(&kept, "1").await;
    let before = channels.publish(&kept, "2").await;
    server.kill();
    server.restart().await;
    let after = loop {
        // The connection heals by itself, after one or a few failures.
        let data = json("3");
        if let Ok(position) = publish(&channels.ctx, &kept, &NewPublication::new(&data).unwrap()).await {
            break position;
        }
    };
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(after.offset, 1);
    assert_eq!(bodies(&all(&channels.ctx, &kept).await.publications), ["{\"data\":3}"]);
    let old = Filter { limit: 1, since: Some(before), ..Filter::default() };
    assert!(matches!(history(&channels.ctx, &Reader::Process, &kept, &old).await, Err(ChannelError::UnrecoverablePosition)));
    drop(channels.stores);
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_sent_them_again() {
    let mut stores = TestStores::create().await;
    let server = RedisServer::start().await;
    stores.use_redis(&server);
    let channels = Channels { ctx: with_namespaces(stores.context(&[])), stores };
    let kept = channels.channel("kept:1");
    for offset in 1..=3 {
        assert_eq!(channels.publish(&kept, "1").await.offset, offset);
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut channels.ctx.redis.connection()).await.unwrap();
    }
}

#[test]
fn no_two_channels_share_a_key() {
    let keys = crate::keys::Keys::new("p");
    let names = |channel: &str| [keys.channel(channel), keys.channel_meta(channel), keys.channel_history(channel)];
    proptest!(|(one in ".{0,12}(\\}:1:(meta|history))?", other in ".{0,12}(\\}:1:(meta|history))?")| {
        prop_assume!(one != other);
        let (ones, others) = (names(&one), names(&other));
        prop_assert!(ones.iter().all(|key| !others.contains(key)));
        prop_assert_eq!(keys.channel_of(&ones[0]), Some(one.as_str()));
    });
}
