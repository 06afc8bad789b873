//! A queue that should move and does not is noticed, and so is that it moves again.

use crate::world::{World, send};
use nix::sys::signal::Signal;
use serde_json::json;
use shared::jobs::{JobState, QueueName, queues};
use std::time::{Duration, Instant};

async fn until_stalled(world: &World, is_stalled: bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let queue = queues::get(&world.ctx, &world.caller, &QueueName::default()).await.unwrap();
        if queue.stats.stalled_since.is_some() == is_stalled {
            return;
        }
        assert!(Instant::now() < deadline, "stalled never was {is_stalled}: {queue:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_queue_whose_worker_leases_nothing_is_shown_as_stalled_until_it_moves_again() {
    let world = World::new().await;
    // The first child is elected to watch, and consumes another queue.
    let _watcher = world.worker(&[("WORKER_QUEUES", "other"), ("WORKER_WATCHDOG_S", "1")]);
    let watcher = world.children(1, &[]).await[0];
    let other = world.submit(json!({"kind": "debug.echo", "queue": "other"})).await;
    world.until(other, JobState::Succeeded).await;
    let _worker = world.worker(&[("WORKER_QUEUES", "default"), ("WORKER_LEASE_MS", "60000")]);
    let stuck = world.children(1, &[watcher]).await[0];
    until_stalled(&world, false).await;
    send(stuck, Signal::SIGSTOP);
    let id = world.echo().await;
    until_stalled(&world, true).await;
    send(stuck, Signal::SIGCONT);
    world.until(id, JobState::Succeeded).await;
    until_stalled(&world, false).await;
}

#[tokio::test]
async fn the_platforms_heartbeat_is_run() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let id = world.submit(json!({"kind": "system.heartbeat"})).await;
    let job = world.until(id, JobState::Succeeded).await;
    assert!(job.result.unwrap().get().contains("processed_at"));
}
