//! Handlers that block their thread, all of them at once: the child goes on leasing, beating and settling, and is replaced when
//! a limit has passed.

use crate::world::{World, gone};
use serde_json::json;
use shared::jobs::JobState;
use std::thread::available_parallelism;

/// As many as the child has threads for handlers.
fn n_threads() -> usize {
    available_parallelism().unwrap().get()
}

#[tokio::test]
async fn blocked_threads_cost_nobody_a_lease() {
    let world = World::new().await;
    let concurrency = (n_threads() + 1).to_string();
    let _worker = world.worker(&[("WORKER_CHILDREN", "1"), ("WORKER_CONCURRENCY", &concurrency)]);
    let mut jobs = Vec::new();
    // Longer than two leases.
    for _ in 0..n_threads() {
        jobs.push(world.submit(json!({"kind": "debug.block", "payload": {"ms": 3_500}})).await);
    }
    world.active(n_threads()).await;
    for _ in 0..3 {
        jobs.push(world.echo().await);
    }
    for id in jobs {
        let job = world.until(id, JobState::Succeeded).await;
        assert_eq!((job.attempt, world.failed_attempts(id).await.len()), (1, 0), "{job:?}");
    }
}

#[tokio::test]
async fn a_child_that_a_job_blocks_past_its_limit_is_replaced_and_only_that_job_pays() {
    let world = World::new().await;
    let concurrency = (n_threads() + 2).to_string();
    let _worker = world.worker(&[("WORKER_CHILDREN", "1"), ("WORKER_CONCURRENCY", &concurrency), ("WORKER_LEASE_MS", "60000")]);
    let pid = world.children(1, &[]).await[0];
    let mut neighbours = vec![world.sleep(20_000).await];
    world.active(1).await;
    let mut blocking = Vec::new();
    for _ in 0..n_threads() {
        let retry = json!({"max_attempts": 1});
        blocking.push(world.submit(json!({"kind": "debug.block", "payload": {"ms": 60_000}, "timeout_ms": 1_000, "retry": retry})).await);
    }
    for _ in 0..4 {
        neighbours.push(world.sleep(10).await);
    }
    gone(pid).await;
    for id in blocking {
        let job = world.until(id, JobState::Dead).await;
        assert_eq!(job.error.unwrap().code, "timeout");
        assert_eq!(world.failed_attempts(id).await, ["timeout"]);
    }
    for id in &neighbours[1..] {
        let job = world.until(*id, JobState::Succeeded).await;
        assert!(world.failed_attempts(*id).await.is_empty(), "{job:?}");
    }
    let long = world.until_job(neighbours[0], "run again", |job| job.attempt == 2).await;
    assert!(world.failed_attempts(long.id).await.is_empty(), "it was interrupted for another's sake");
}
