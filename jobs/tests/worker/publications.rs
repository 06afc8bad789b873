//! Publications of persisted channels, saved by real workers that are killed meanwhile.

use crate::world::{World, gone, send};
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use serde_json::value::RawValue;
use shared::channels::{Channel, Direction, Filter, NewPublication, Position, Reader, history, publish};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const CHANNELS: usize = 3;
/// More than Redis keeps, so that the table is needed.
const EACH_AT_LEAST: usize = 400;

/// Publishes on all channels in turn for as long as somebody is being killed; where the channels stand in the end.
async fn publish_all(world: &World, channels: &[Channel], is_over: &AtomicBool) -> Vec<Position> {
    let mut n = 0;
    loop {
        let data = RawValue::from_string(n.to_string()).unwrap();
        let new = NewPublication::new(&data).unwrap();
        let positions = try_join_all(channels.iter().map(|channel| publish(&world.ctx, channel, &new))).await.unwrap();
        n += 1;
        if n >= EACH_AT_LEAST && is_over.load(Ordering::Relaxed) {
            return positions;
        }
    }
}

async fn n_saved(world: &World) -> usize {
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM publications").fetch_one(&world.ctx.pg).await.unwrap();
    usize::try_from(n).unwrap()
}

async fn until_saved(world: &World, n: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while n_saved(world).await < n {
        assert!(Instant::now() < deadline, "{} of {n} publications are saved", n_saved(world).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Kills the process that saves, each time something more was saved.
async fn kill_those_who_save(world: &World, is_over: &AtomicBool) {
    let mut killed = Vec::new();
    for _ in 0..3 {
        let [child] = world.children(1, &killed).await[..] else { panic!("there is one child") };
        until_saved(world, n_saved(world).await + 1).await;
        send(child, Signal::SIGKILL);
        gone(child).await;
        killed.push(child);
    }
    is_over.store(true, Ordering::Relaxed);
}

#[tokio::test]
async fn everything_that_was_accepted_is_saved_once_whoever_is_killed() {
    let world = World::new().await;
    let _worker = world.worker(&[("WORKER_CHILDREN", "1")]);
    let channels: Vec<Channel> = (0..CHANNELS).map(|n| world.ctx.namespaces.resolve(&format!("chat:{n}")).unwrap()).collect();
    let is_over = AtomicBool::new(false);
    let (positions, ()) = tokio::join!(publish_all(&world, &channels, &is_over), kill_those_who_save(&world, &is_over));
    let n_published = positions.iter().map(|position| usize::try_from(position.offset).unwrap()).sum();
    until_saved(&world, n_published).await;
    assert_eq!(n_saved(&world).await, n_published);
    for (channel, position) in channels.iter().zip(&positions) {
        let since = Some(Position::new(0, &position.epoch));
        let filter = Filter { limit: 300, since, direction: Direction::Forward };
        let history = history(&world.ctx, &Reader::Process, channel, &filter).await.unwrap();
        let offsets: Vec<u64> = history.publications.iter().map(|publication| publication.offset).collect();
        assert_eq!(offsets, (1..=300).collect::<Vec<_>>());
    }
}
