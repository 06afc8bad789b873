//! Handlers that block their thread, all of them at once: the child goes on leasing, beating and settling, and is replaced when
//! a limit has passed.

use crate::world::{World, gone};
use serde_json::json;
use shared::{ids::JobId, jobs::JobState};
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
    let long = world.until_job(neighbours[0], "run again", |job| job.attempt >= 2).await;
    assert!(world.failed_attempts(long.id).await.is_empty(), "it was interrupted for another's sake");
}

#[tokio::test]
async fn a_child_that_is_killed_for_one_job_harms_no_other_child_and_its_neighbours_finish_elsewhere() {
    let world = World::new().await;
    let settings =
        [("WORKER_CHILDREN", "2"), ("WORKER_CONCURRENCY", "4"), ("WORKER_PREFETCH_MULTIPLIER", "2"), ("WORKER_LEASE_MS", "60000")];
    let _worker = world.worker(&settings);
    world.children(2, &[]).await;
    let block = json!({"kind": "debug.block", "payload": {"ms": 60_000}, "timeout_ms": 2_000, "retry": {"max_attempts": 1}});
    let blocking = world.submit(block).await;
    let nonce = world.until_leased(1, 1).await.remove(0).nonce;
    for _ in 0..7 {
        world.sleep(4_000).await;
    }
    // Both children hold four and run two.
    let (with_it, apart): (Vec<_>, Vec<_>) = world.until_leased(8, 4).await.into_iter().partition(|lease| lease.nonce == nonce);
    assert_eq!((with_it.len(), apart.len()), (4, 4));
    let job = world.until(blocking, JobState::Dead).await;
    assert_eq!(job.error.unwrap().code, "timeout");
    let finish = async |id: JobId| {
        let job = world.until(id, JobState::Succeeded).await;
        assert!(world.failed_attempts(id).await.is_empty(), "{job:?}");
        job.attempt
    };
    for lease in apart {
        assert_eq!(finish(lease.job_id).await, 1, "another child's job ran on, or waited on");
    }
    for lease in with_it.iter().filter(|lease| lease.job_id != blocking) {
        let attempt = finish(lease.job_id).await;
        assert!(attempt >= 2 || !lease.is_started, "it was interrupted and ran again");
    }
}
