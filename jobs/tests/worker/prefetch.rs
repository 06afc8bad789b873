//! What workers lease ahead: how much, and what becomes of it when one of them stops.

use crate::world::{World, send};
use nix::sys::signal::Signal;
use shared::jobs::{JobState, workers::WorkerState};
use time::OffsetDateTime;

#[tokio::test]
async fn two_workers_of_twelve_run_twenty_four_jobs_and_lease_four_times_that_in_all() {
    let world = World::new().await;
    let settings = [("WORKER_CHILDREN", "2"), ("WORKER_CONCURRENCY", "12"), ("WORKER_LEASE_MS", "60000")];
    let _workers = [world.worker(&settings), world.worker(&settings)];
    world.children(4, &[]).await;
    for _ in 0..110 {
        world.sleep(60_000).await;
    }
    world.until_leased(2 * 12 * 4, 2 * 12).await;
    let each_has_its_share = |workers: &[shared::jobs::workers::Worker]| {
        workers.len() == 2 && workers.iter().all(|worker| (worker.counts.active, worker.counts.reserved) == (12, 36))
    };
    world.until_workers("with 12 jobs running and 36 ahead in each", each_has_its_share).await;
}

#[tokio::test]
async fn what_a_stopping_worker_has_not_started_runs_elsewhere_before_it_has_ended() {
    let world = World::new().await;
    let settings = [("WORKER_CONCURRENCY", "1"), ("WORKER_LEASE_MS", "60000"), ("WORKER_GRACE_S", "60")];
    let stopping = world.worker(&settings);
    let running = world.sleep(60_000).await;
    world.until(running, JobState::Running).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(world.sleep(1).await);
    }
    world.until_leased(4, 1).await;
    let _other = world.worker(&settings);
    world.children(2, &[]).await;
    send(stopping.pid(), Signal::SIGTERM);
    for id in waiting {
        let job = world.until(id, JobState::Succeeded).await;
        assert!(world.failed_attempts(id).await.is_empty(), "{job:?}");
    }
    assert_eq!(world.job(running).await.state, JobState::Running, "what runs is neither cut short nor waited for");
    world.until_workers("one that stops", |workers| workers.iter().any(|worker| worker.state == WorkerState::Draining)).await;
}

#[tokio::test]
#[ignore = "a measurement: cargo test -p jobs --test worker -- --ignored --nocapture how_soon"]
async fn how_soon_what_a_stopping_worker_has_not_started_starts_elsewhere() {
    let world = World::new().await;
    let settings = [("WORKER_CONCURRENCY", "12"), ("WORKER_LEASE_MS", "60000"), ("WORKER_GRACE_S", "60")];
    let stopping = world.worker(&settings);
    for _ in 0..12 {
        world.sleep(60_000).await;
    }
    let mut waiting = Vec::new();
    for _ in 0..36 {
        waiting.push(world.sleep(1).await);
    }
    world.until_leased(48, 12).await;
    let _other = world.worker(&settings);
    world.children(2, &[]).await;
    let told_at = OffsetDateTime::now_utc();
    send(stopping.pid(), Signal::SIGTERM);
    let mut started_after = Vec::new();
    for id in waiting {
        let job = world.until(id, JobState::Succeeded).await;
        started_after.push(job.started_at.unwrap() - told_at);
    }
    started_after.sort();
    println!("36 unstarted jobs started elsewhere {} to {} after the signal", started_after[0], started_after[35]);
}
