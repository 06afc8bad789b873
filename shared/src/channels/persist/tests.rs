//! That what was accepted ends up in the table, once, and can be read all the while.

use super::{
    saving::{move_over, read_all, save_and_die},
    *,
};
use crate::{
    channels::{
        Channel, Direction, Filter, Position, Reader, history, history_remove,
        tests::{Channels, json, offsets, with_namespaces},
    },
    page::{Page, page_request},
    testing::{RedisServer, TestStores},
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

async fn publish_many(channels: &Channels, channel: &Channel, n: usize) -> Position {
    let mut position = Position::new(0, "");
    for at in 0..n {
        position = channels.publish(channel, &at.to_string()).await;
    }
    position
}

async fn save_all(ctx: &Context) -> usize {
    let (mut cursor, mut n_saved) = (Cursor::default(), 0);
    loop {
        match save(ctx, &mut cursor).await.expect("both servers answer") {
            0 if cursor.is_at_start() => return n_saved,
            n => n_saved += n,
        }
    }
}

async fn read(channels: &Channels, channel: &Channel, limit: u32, since: Option<&Position>, direction: Direction) -> Vec<u64> {
    let filter = Filter { limit, since: since.cloned(), direction };
    offsets(&history(&channels.ctx, &Reader::Process, channel, &filter).await.expect("both servers answer").publications)
}

async fn count(ctx: &Context, table: &'static str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&ctx.pg).await.unwrap()
}

async fn n_unsaved(ctx: &Context, channel: &Channel) -> usize {
    let key = ctx.keys.channel_unsaved(channel.name.as_str());
    redis::cmd("XLEN").arg(key).query_async(&mut ctx.redis.connection()).await.unwrap()
}

#[tokio::test]
async fn history_is_whole_before_during_and_after_saving() {
    let channels = Channels::open().await;
    let saved = channels.channel("saved:1");
    // Three are kept; the first five are in the table, the next two only wait for it.
    let position = publish_many(&channels, &saved, 5).await;
    assert_eq!(save_all(&channels.ctx).await, 5);
    publish_many(&channels, &saved, 5).await;
    let strategy = (0u32..14, prop::option::of(0u64..13), any::<bool>());
    let mut runner = TestRunner::deterministic();
    for round in 0..60 {
        if round == 30 {
            assert_eq!(save_all(&channels.ctx).await, 5);
        }
        let (limit, since, is_reverse) = strategy.new_tree(&mut runner).unwrap().current();
        // Forward from beyond the top there is no history.
        let since = since.map(|since| if is_reverse { since } else { since.min(10) });
        let since = since.map(|offset| Position { offset, ..position.clone() });
        // Forward without a position begins with what Redis keeps.
        let mut model: Vec<u64> = if since.is_none() && !is_reverse { (8..=10).collect() } else { (1..=10).collect() };
        if is_reverse {
            model.reverse();
        }
        let is_wanted =
            |offset: u64| since.as_ref().is_none_or(|since| if is_reverse { offset < since.offset } else { offset > since.offset });
        model.retain(|offset| is_wanted(*offset));
        model.truncate(usize::try_from(limit).unwrap());
        let direction = if is_reverse { Direction::Reverse } else { Direction::Forward };
        assert_eq!(read(&channels, &saved, limit, since.as_ref(), direction).await, model, "{limit} {since:?} {direction:?}");
    }
    assert_eq!((n_unsaved(&channels.ctx, &saved).await, count(&channels.ctx, "publications").await), (0, 10));
}

#[tokio::test]
async fn what_a_process_that_died_had_written_is_not_written_twice() {
    let channels = Channels::open().await;
    let saved = channels.channel("saved:1");
    publish_many(&channels, &saved, 7).await;
    assert_eq!(save_and_die(&channels.ctx).await, 7);
    publish_many(&channels, &saved, 2).await;
    assert_eq!(save_all(&channels.ctx).await, 9);
    assert_eq!(count(&channels.ctx, "publications").await, 9);
    assert_eq!(read(&channels, &saved, 20, None, Direction::Reverse).await, (1..=9).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn answers_end_before_they_are_too_large_wherever_they_come_from() {
    let channels = Channels::open().await;
    let saved = channels.channel("saved:1");
    let data = format!("\"{}\"", "x".repeat(60_000));
    let mut last = Position::new(0, "");
    // Seventeen fit into an answer.
    for _ in 0..30 {
        last = channels.publish(&saved, &data).await;
    }
    assert_eq!(save_all(&channels.ctx).await, 30);
    for _ in 0..6 {
        channels.publish(&saved, &data).await;
    }
    let since = |offset| Position { offset, ..last.clone() };
    assert_eq!(read(&channels, &saved, 300, Some(&since(0)), Direction::Forward).await, (1..=17).collect::<Vec<_>>());
    assert_eq!(read(&channels, &saved, 300, Some(&since(25)), Direction::Forward).await, (26..=36).collect::<Vec<_>>());
    assert_eq!(read(&channels, &saved, 300, None, Direction::Reverse).await, (20..=36).rev().collect::<Vec<_>>());
    let page = archive(&channels.ctx, &Reader::Process, &saved, &page_request(Some(1_000), None).unwrap()).await.unwrap();
    assert_eq!((page.items.len(), page.next_cursor.is_some()), (17, true));
}

#[tokio::test]
async fn what_was_removed_is_gone_from_both_servers_and_what_comes_later_stays() {
    let channels = Channels::open().await;
    let (saved, other) = (channels.channel("saved:1"), channels.channel("saved:2"));
    publish_many(&channels, &saved, 6).await;
    publish_many(&channels, &other, 1).await;
    assert_eq!(save_all(&channels.ctx).await, 7);
    let last = publish_many(&channels, &saved, 2).await;
    history_remove(&channels.ctx, &saved).await.unwrap();
    assert_eq!((n_unsaved(&channels.ctx, &saved).await, count(&channels.ctx, "publications").await), (0, 1));
    let first = Position { offset: 1, ..last.clone() };
    assert_eq!(read(&channels, &saved, 300, None, Direction::Reverse).await, [0u64; 0]);
    assert_eq!(read(&channels, &saved, 300, Some(&first), Direction::Forward).await, [0u64; 0]);
    publish_many(&channels, &saved, 1).await;
    assert_eq!(save_all(&channels.ctx).await, 1);
    assert_eq!(read(&channels, &saved, 300, None, Direction::Reverse).await, [last.offset + 1]);
}

#[tokio::test]
async fn what_was_read_to_be_saved_and_then_removed_is_not_saved() {
    let channels = Channels::open().await;
    let (saved, other) = (channels.channel("saved:1"), channels.channel("saved:2"));
    publish_many(&channels, &saved, 6).await;
    publish_many(&channels, &other, 1).await;
    let found = read_all(&channels.ctx).await;
    history_remove(&channels.ctx, &saved).await.unwrap();
    assert_eq!((found.len(), move_over(&channels.ctx, found).await.unwrap()), (7, 1));
    assert_eq!(read(&channels, &saved, 300, None, Direction::Reverse).await, [0u64; 0]);
}

#[tokio::test]
async fn who_removes_waits_for_who_writes() {
    let channels = Channels::open().await;
    let saved = channels.channel("saved:1");
    publish_many(&channels, &saved, 6).await;
    let found = read_all(&channels.ctx).await;
    let mut tx = channels.ctx.pg.begin().await.unwrap();
    store::hold_off_removals(&mut tx).await.unwrap();
    let removing = tokio::spawn({
        let (ctx, saved) = (channels.ctx.clone(), saved.clone());
        async move { history_remove(&ctx, &saved).await }
    });
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&channels.ctx.pg).await.unwrap() {}
    store::insert(&mut *tx, &found).await.unwrap();
    tx.commit().await.unwrap();
    removing.await.unwrap().unwrap();
    assert_eq!(count(&channels.ctx, "publications").await, 0);
}

#[tokio::test]
async fn every_channel_is_saved_while_others_publish_on() {
    let channels = Channels::open().await;
    let names: Vec<String> = (0..1_100).map(|n| format!("saved:{n}")).collect();
    let all: Vec<Channel> = names.iter().map(|name| channels.channel(name)).collect();
    futures_util::future::join_all(all.iter().map(|channel| channels.publish(channel, "1"))).await;
    let publishing = async { futures_util::future::join_all(all.iter().map(|channel| channels.publish(channel, "2"))).await };
    let (_, before) = tokio::join!(publishing, save_all(&channels.ctx));
    assert_eq!(before + save_all(&channels.ctx).await, 2_200);
    assert_eq!(count(&channels.ctx, "publications").await, 2_200);
}

#[tokio::test]
async fn a_quiet_channel_is_forgotten_and_found_again() {
    let channels = Channels::open().await;
    let saved = channels.channel("saved:1");
    let n_registered = async || -> usize {
        redis::cmd("ZCARD").arg(channels.ctx.keys.channels_unsaved()).query_async(&mut channels.ctx.redis.connection()).await.unwrap()
    };
    channels.publish(&saved, "1").await;
    assert_eq!((save_all(&channels.ctx).await, n_registered().await), (1, 1));
    channels.ctx.clock.advance(time::Duration::minutes(11));
    assert_eq!((save_all(&channels.ctx).await, n_registered().await), (0, 0));
    channels.publish(&saved, "2").await;
    assert_eq!((n_registered().await, save_all(&channels.ctx).await), (1, 1));
}

#[tokio::test]
async fn the_archive_reads_across_epochs() {
    let mut stores = TestStores::create().await;
    let mut server = RedisServer::start().await;
    stores.use_redis(&server);
    let channels = Channels { ctx: with_namespaces(stores.context(&[])), stores };
    let saved = channels.channel("saved:1");
    publish_many(&channels, &saved, 3).await;
    server.kill();
    server.restart().await;
    while channels.ctx.redis.ping().await.is_err() {}
    channels.ctx.clock.advance(time::Duration::seconds(1));
    publish_many(&channels, &saved, 2).await;
    // What the old epoch left unsaved is saved as well.
    assert_eq!(save_all(&channels.ctx).await, 5);
    let page = async |cursor: Option<&str>| {
        archive(&channels.ctx, &Reader::Process, &saved, &page_request(Some(3), cursor).unwrap()).await.unwrap()
    };
    let Page { items: newest, next_cursor } = page(None).await;
    let Page { items: older, next_cursor: None } = page(next_cursor.as_deref()).await else { panic!("two pages are all") };
    let read: Vec<u64> = newest.iter().chain(&older).map(|archived| archived.publication.offset).collect();
    assert_eq!(read, [2, 1, 3, 2, 1]);
    assert!(newest[1].epoch != newest[2].epoch && newest[2].epoch == older[0].epoch);
}

#[tokio::test]
async fn without_the_database_publishing_and_what_redis_keeps_go_on() {
    let stores = TestStores::create().await;
    let ctx = with_namespaces(stores.context(&[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")]));
    let channels = Channels { ctx, stores };
    let saved = channels.channel("saved:1");
    publish_many(&channels, &saved, 5).await;
    assert_eq!(read(&channels, &saved, 300, None, Direction::Reverse).await, [5, 4, 3]);
    assert!(save(&channels.ctx, &mut Cursor::default()).await.is_err());
    assert_eq!(n_unsaved(&channels.ctx, &saved).await, 5);
}

#[tokio::test]
async fn publishing_is_refused_rather_than_forgotten_when_too_much_waits() {
    let channels = Channels::open().await;
    let saved = channels.channel("saved:1");
    let fill = redis::Script::new("for n = ARGV[1], ARGV[2] do redis.call('XADD', KEYS[1], '1-' .. n, 'x', '') end");
    for first in (1..=100_000).step_by(5_000) {
        let mut filling = fill.key(channels.ctx.keys.channel_unsaved("saved:1"));
        let () = filling.arg(first).arg(first + 4_999).invoke_async(&mut channels.ctx.redis.connection()).await.unwrap();
    }
    assert_eq!(n_unsaved(&channels.ctx, &saved).await, 100_000);
    let data = json("1");
    let refused = crate::channels::publish(&channels.ctx, &saved, &crate::channels::NewPublication::new(&data).unwrap()).await;
    assert!(matches!(refused, Err(ChannelError::LimitExceeded(_))), "{refused:?}");
}

#[tokio::test]
async fn months_are_made_ahead_and_go_with_their_retention() {
    let channels = Channels::open().await;
    let ctx = &channels.ctx;
    let old = ctx.clock.now() - time::Duration::days(500);
    sqlx::query("SELECT publications_add_month($1)").bind(old.date()).execute(&ctx.pg).await.unwrap();
    for at in [old, ctx.clock.now() - time::Duration::days(600), ctx.clock.now()] {
        let insert = sqlx::query("INSERT INTO publications VALUES ('c', 'e', 1, $1, '{}')");
        insert.bind(at).execute(&ctx.pg).await.unwrap();
    }
    keep_house(ctx).await.unwrap();
    assert_eq!((count(ctx, "publications").await, count(ctx, "publications_default").await), (1, 0));
    keep_house(ctx).await.unwrap();
}
