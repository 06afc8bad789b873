//! What is kept, and which part of it is read.

use super::{
    super::history::{SMALL_BYTES, slice},
    turns::Asker,
    *,
};
use futures_util::poll;
use proptest::{prelude::*, strategy::ValueTree};

async fn read(channels: &Channels, channel: &Channel, filter: Filter) -> Vec<u64> {
    offsets(&history(&channels.ctx, &Reader::Process, channel, &filter).await.expect("Redis answers").publications)
}

#[tokio::test]
async fn the_newest_are_kept_and_the_position_goes_on() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    for n in 1..=8 {
        channels.publish(&kept, &n.to_string()).await;
    }
    let history = history(&channels.ctx, &Reader::Process, &kept, &Filter { limit: 300, ..Filter::default() }).await.unwrap();
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
        if !is_reverse && since.is_some_and(|since| since > N) {
            assert!(
                matches!(history(&channels.ctx, &Reader::Process, &long, &filter).await, Err(ChannelError::UnrecoverablePosition)),
                "{filter:?}"
            );
        } else {
            assert_eq!(read(&channels, &long, filter.clone()).await, model, "{filter:?}");
        }
    }
}

#[tokio::test]
async fn offsets_beyond_all_that_were_given_out_are_no_position() {
    let channels = Channels::open().await;
    for channel in [channels.channel("kept:1"), channels.channel("saved:1")] {
        let epoch = channels.publish(&channel, "1").await.epoch;
        for offset in [2, u64::MAX - 1, u64::MAX] {
            let since = Some(Position { offset, epoch: std::sync::Arc::clone(&epoch) });
            let filter = Filter { limit: 9, since, direction: Direction::Forward };
            assert!(
                matches!(history(&channels.ctx, &Reader::Process, &channel, &filter).await, Err(ChannelError::UnrecoverablePosition)),
                "{offset}"
            );
            assert_eq!(read(&channels, &channel, Filter { direction: Direction::Reverse, ..filter }).await, [1], "{offset}");
        }
    }
}

#[tokio::test]
async fn an_answer_ends_before_it_is_too_large_and_catching_up_is_all_or_nothing() {
    let channels = Channels::open().await;
    let long = channels.channel("long:1");
    let data = format!("\"{}\"", "x".repeat(60_000));
    let mut last = Position::new(0, "");
    for _ in 0..20 {
        last = channels.publish(&long, &data).await;
    }
    let since = |offset| Position { offset, ..last.clone() };
    let from = |offset| Filter { limit: 300, since: Some(since(offset)), direction: Direction::Forward };
    assert_eq!(read(&channels, &long, from(0)).await, (1..=17).collect::<Vec<_>>());
    assert_eq!(read(&channels, &long, from(17)).await, [18, 19, 20]);
    assert_eq!(read(&channels, &long, Filter::newest(300)).await, (4..=20).rev().collect::<Vec<_>>());
    for (offset, n_missed) in [(3, 17), (2, 0), (20, 0)] {
        let missed = missed(&channels.ctx, &Reader::Process, &long, &since(offset)).await.unwrap();
        assert_eq!((missed.publications.len(), &missed.position), (n_missed, &last), "{offset}");
    }
}

#[tokio::test]
async fn many_who_come_back_at_once_are_all_served() {
    let channels = Channels::open().await;
    let long = channels.channel("long:1");
    let data = format!("\"{}\"", "x".repeat(2_000));
    futures_util::future::join_all((0..300).map(|_| channels.publish(&long, &data))).await;
    let start = Position::new(0, "");
    let all = futures_util::future::join_all((0..60).map(|_| missed(&channels.ctx, &Reader::Process, &long, &start))).await;
    assert!(all.iter().all(|missed| missed.as_ref().is_ok_and(|missed| missed.publications.len() == 300)));
}

#[tokio::test]
async fn a_position_that_nothing_was_published_at_is_kept_for_minutes() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    let ttl = async || -> i64 {
        let key = channels.ctx.keys.channel_meta("kept:1");
        redis::cmd("TTL").arg(key).query_async(&mut channels.ctx.redis.connection()).await.expect("Redis answers")
    };
    let before = position(&channels.ctx, &Reader::Process, &kept).await.unwrap();
    assert!((1..=600).contains(&ttl().await));
    let first = channels.publish(&kept, "1").await;
    assert_eq!((first.epoch, first.offset), (before.epoch, 1));
    assert!(ttl().await > 80_000);
    position(&channels.ctx, &Reader::Process, &kept).await.unwrap();
    assert!(ttl().await > 80_000);
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
    assert_eq!(position(&channels.ctx, &Reader::Process, &kept).await.unwrap(), first);
    assert_eq!(channels.publish(&kept, "2").await.offset, 2);
}

#[tokio::test]
async fn a_channel_without_history_has_none_to_read() {
    let channels = Channels::open().await;
    let (live, kept) = (channels.channel("live:1"), channels.channel("kept:1"));
    assert!(matches!(position(&channels.ctx, &Reader::Process, &live).await, Err(ChannelError::NotAvailable)));
    assert!(matches!(history_remove(&channels.ctx, &live).await, Err(ChannelError::NotAvailable)));
    let second = channels.publish(&kept, "1").await;
    let both = positions(&channels.ctx, &Reader::Process, &[live, kept]).await.unwrap();
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

/// Runs `entries.lua` on a stream of publications of these sizes. Returns how many entries Redis read for it, in how many calls, and how many it gave.
async fn look(channels: &Channels, sizes: &[usize], bytes: usize) -> (usize, usize, usize) {
    const COUNTED: &str = concat!(
        "local real, n_read, n_calls = redis, 0, 0\n",
        "local redis = { call = function(...)\n",
        "  local found = real.call(...)\n",
        "  n_read, n_calls = n_read + #found, n_calls + 1\n",
        "  return found\n",
        "end }\n",
        include_str!("../entries.lua"),
        "local entries = entries_within('XRANGE', KEYS[1], '-', '+', 300, tonumber(ARGV[1]), tonumber(ARGV[2]), 2)\n",
        "return { n_read, n_calls, #entries }\n",
    );
    let (key, mut connection) = (channels.ctx.keys.channel_history("long:look"), channels.ctx.redis.connection());
    let mut pipe = redis::pipe();
    pipe.cmd("DEL").arg(&key).ignore();
    for (size, offset) in sizes.iter().zip(1..) {
        pipe.cmd("XADD").arg(&key).arg(format!("{offset}-0")).arg("b").arg("x".repeat(*size)).arg("t").arg(0).ignore();
    }
    pipe.exec_async(&mut connection).await.unwrap();
    let slice = slice(&channels.channel("long:look"));
    redis::cmd("EVAL").arg(COUNTED).arg(1).arg(&key).arg(bytes).arg(slice).query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_small_look_has_redis_read_little() {
    let channels = Channels::open().await;
    assert_eq!(look(&channels, &[65_000; 16], SMALL_BYTES).await, (1, 1, 1), "the first says that it is too much");
    let (n_read, n_calls, n_given) = look(&channels, &[50; 300], SMALL_BYTES).await;
    assert_eq!((n_read, n_given), (300, 300));
    assert!(n_calls <= 42, "{n_calls}");
    assert_eq!(look(&channels, &[2_000; 300], SMALL_BYTES).await, (9, 4, 9));
    // However small those are that come first.
    let misleading: Vec<_> = [10; 40].into_iter().chain([65_000; 100]).collect();
    let (n_read, _, n_given) = look(&channels, &misleading, SMALL_BYTES).await;
    assert!(n_given == 41 && n_read <= 48, "{n_read}");
    assert_eq!(look(&channels, &[60_000; 40], 1 << 20).await.2, 18);
}

#[tokio::test]
async fn a_slice_is_no_larger_where_publications_may_be() {
    let channels = Channels::open().await;
    let mut channel = channels.channel("long:1");
    let mut slice_of = |publication_max_bytes| {
        channel.namespace = std::sync::Arc::new(Namespace { publication_max_bytes, ..Namespace::clone(&channel.namespace) });
        slice(&channel)
    };
    assert_eq!([1 << 10, 64 << 10, 1 << 20].map(&mut slice_of), [512, 8, 1]);
}

#[tokio::test]
async fn a_user_who_has_taken_all_turns_keeps_nobody_waiting() {
    let channels = Channels::open().await;
    let long = channels.channel("long:1");
    channels.publish(&long, &format!("\"{}\"", "x".repeat(30_000))).await;
    let (greedy, modest) = (Reader::User("1".into()), Reader::User("2".into()));
    let HistoryTurns { small, large } = &*channels.ctx.history_turns;
    let mut taken = Vec::new();
    for _ in 0..48 {
        taken.push(small.take(Asker::now(&greedy)).await.unwrap());
    }
    for _ in 0..3 {
        taken.push(large.take(Asker::now(&greedy)).await.unwrap());
    }
    let (all, ctx) = (Filter::newest(300), &channels.ctx);
    let mut of_greedy = Box::pin(history(ctx, &greedy, &long, &all));
    assert!(poll!(&mut of_greedy).is_pending());
    for _ in 0..10 {
        assert_eq!(history(ctx, &modest, &long, &all).await.unwrap().publications.len(), 1);
        position(ctx, &Reader::User("".into()), &long).await.unwrap();
    }
    assert_eq!((small.n_taken(), large.n_taken()), (48, 3), "the greedy one has waited");
    taken.clear();
    assert_eq!(of_greedy.await.unwrap().publications.len(), 1);
}

#[tokio::test]
async fn a_turn_lasts_until_redis_has_answered_whoever_leaves() {
    let channels = Channels::open().await;
    let kept = channels.channel("kept:1");
    let turns = &channels.ctx.history_turns.small;
    let (reader, filter) = (Reader::User("1".into()), Filter::newest(1));
    let mut asked = Box::pin(history(&channels.ctx, &reader, &kept, &filter));
    assert!(poll!(&mut asked).is_pending());
    drop(asked);
    assert_eq!(turns.n_taken(), 1, "Redis has not answered");
    tokio::time::timeout(Duration::from_secs(20), async {
        while turns.n_taken() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("Redis answers");
}
