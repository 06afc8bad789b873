//! What is kept, and which part of it is read.

use super::*;
use proptest::{prelude::*, strategy::ValueTree};

async fn read(channels: &Channels, channel: &Channel, filter: Filter) -> Vec<u64> {
    offsets(&history(&channels.ctx, channel, &filter).await.expect("Redis answers").publications)
}

#[tokio::test]
async fn the_newest_are_kept_and_the_position_goes_on() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    for n in 1..=8 {
        channels.publish(&kept, &n.to_string()).await;
    }
    let history = history(&channels.ctx, &kept, &Filter { limit: 300, ..Filter::default() }).await.unwrap();
    assert_eq!(history.position.offset, 8);
    assert_eq!(bodies(&history.publications), [4, 5, 6, 7, 8].map(|n| format!("{{\"data\":{n}}}")));
}

#[tokio::test]
async fn every_filter_reads_what_it_says() {
    let channels = Channels::open().await;
    let long = channels.channel("long:1");
    const N: u64 = 12;
    let mut position = None;
    for _ in 0..N {
        position = Some(channels.publish(&long, "0").await);
    }
    let epoch = position.unwrap().epoch;
    let strategy = (0u32..20, prop::option::of(0u64..15), any::<bool>());
    let mut runner = prop::test_runner::TestRunner::deterministic();
    for _ in 0..64 {
        let (limit, since, is_reverse) = strategy.new_tree(&mut runner).unwrap().current();
        let mut model: Vec<u64> = (1..=N).collect();
        if is_reverse {
            model.reverse();
        }
        model.retain(|offset| since.is_none_or(|since| if is_reverse { *offset < since } else { *offset > since }));
        model.truncate(usize::try_from(limit).unwrap());
        let filter = Filter {
            limit,
            since: since.map(|offset| Position { offset, epoch: std::sync::Arc::clone(&epoch) }),
            direction: if is_reverse { Direction::Reverse } else { Direction::Forward },
        };
        assert_eq!(read(&channels, &long, filter.clone()).await, model, "{filter:?}");
    }
}

#[tokio::test]
async fn one_answer_holds_at_most_three_hundred() {
    let channels = Channels::open().await;
    let long = channels.channel("long:1");
    futures_util::future::join_all((0..310).map(|_| channels.publish(&long, "0"))).await;
    assert_eq!(read(&channels, &long, Filter { limit: u32::MAX, ..Filter::default() }).await, (1..=300).collect::<Vec<_>>());
    assert_eq!(read(&channels, &long, Filter::newest(2)).await, [310, 309]);
}

#[tokio::test]
async fn what_was_removed_is_gone_and_its_offsets_stay_taken() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    let first = channels.publish(&kept, "1").await;
    history_remove(&channels.ctx, &kept).await.unwrap();
    assert_eq!(read(&channels, &kept, Filter::newest(9)).await, [0u64; 0]);
    assert_eq!(position(&channels.ctx, &kept).await.unwrap(), first);
    assert_eq!(channels.publish(&kept, "2").await.offset, 2);
}

#[tokio::test]
async fn a_channel_without_history_has_none_to_read() {
    let channels = Channels::open().await;
    let (live, kept) = (channels.channel("live:1"), channels.channel("kept:1"));
    assert!(matches!(position(&channels.ctx, &live).await, Err(ChannelError::NotAvailable)));
    assert!(matches!(history_remove(&channels.ctx, &live).await, Err(ChannelError::NotAvailable)));
    let second = channels.publish(&kept, "1").await;
    let both = positions(&channels.ctx, &[live, kept]).await.unwrap();
    assert_eq!(both, [None, Some(second)]);
}

#[tokio::test]
async fn what_is_kept_and_the_position_expire_as_configured() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    channels.publish(&kept, "1").await;
    let ttl = async |key: String| -> i64 {
        redis::cmd("TTL").arg(key).query_async(&mut channels.ctx.redis.connection()).await.expect("Redis answers")
    };
    for key in [channels.ctx.keys.channel_history("kept:1"), channels.ctx.keys.channel_meta("kept:1")] {
        let seconds = ttl(key).await;
        assert!((86_000..=86_400).contains(&seconds), "{seconds}");
    }
}
