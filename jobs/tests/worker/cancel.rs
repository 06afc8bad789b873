//! Cancelling what runs.

use crate::world::World;
use shared::jobs::{JobState, cancel};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_running_job_hears_of_its_cancel_within_a_second() {
    let world = World::new().await;
    // Heartbeats too slow to be what tells it.
    let _worker = world.worker(&[("WORKER_LEASE_MS", "60000"), ("WORKER_HEARTBEAT_MS", "20000"), ("WORKER_RECONCILE_MS", "60000")]);
    let id = world.sleep(60_000).await;
    world.until(id, JobState::Running).await;
    let asked = Instant::now();
    cancel::cancel(&world.ctx, &world.caller, id).await.unwrap();
    world.until(id, JobState::Cancelled).await;
    assert!(asked.elapsed() < Duration::from_secs(10), "the doorbell told it, not the heartbeat");
    assert_eq!(world.failed_attempts(id).await, ["cancelled"]);
}

#[tokio::test]
async fn a_job_that_waits_behind_others_is_cancelled_at_once() {
    let world = World::new().await;
    let _worker = world.worker(&[("WORKER_CONCURRENCY", "1"), ("WORKER_PREFETCH_MULTIPLIER", "1")]);
    let running = world.sleep(60_000).await;
    world.until(running, JobState::Running).await;
    let waiting = world.sleep(1).await;
    cancel::cancel(&world.ctx, &world.caller, waiting).await.unwrap();
    assert_eq!(world.job(waiting).await.state, JobState::Cancelled);
}
