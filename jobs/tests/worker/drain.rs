//! Workers that are told to stop.

use crate::{
    held::Gate,
    world::{World, send},
};
use nix::sys::signal::Signal;
use shared::jobs::{JobState, workers::WorkerState};

#[tokio::test]
async fn a_warm_stop_finishes_what_runs_and_hands_the_rest_back_unspent() {
    let world = World::new().await;
    let worker = world.worker(&[("WORKER_CONCURRENCY", "1")]);
    let gate = Gate::new(&world).await;
    let running = gate.running().await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(world.sleep(1).await);
    }
    // They are leased ahead: one slot, four times the prefetch.
    world.until_leased(4, 1).await;
    worker.signal(Signal::SIGTERM);
    world.until_state(WorkerState::Draining).await;
    gate.open();
    assert!(worker.ended().await);
    assert!(world.workers().await.is_empty(), "a worker that ended in order is not lost");
    assert_eq!(world.job(running).await.state, JobState::Succeeded);
    for id in waiting {
        let job = world.job(id).await;
        assert_eq!((job.state, job.attempt), (JobState::Queued, 0), "{job:?}");
        assert!(world.failed_attempts(id).await.is_empty());
    }
}

#[tokio::test]
async fn a_second_term_hands_running_jobs_back_at_once() {
    let world = World::new().await;
    let worker = world.worker(&[]);
    let id = world.sleep(60_000).await;
    world.until(id, JobState::Running).await;
    worker.signal(Signal::SIGTERM);
    world.until_state(WorkerState::Draining).await;
    worker.signal(Signal::SIGTERM);
    assert!(worker.ended().await);
    let job = world.job(id).await;
    assert_eq!(job.state, JobState::Queued, "{job:?}");
    assert!(world.failed_attempts(id).await.is_empty(), "the worker's end is not the job's failure");
}

#[tokio::test]
async fn a_child_that_does_not_answer_its_orders_is_killed() {
    let world = World::new().await;
    let worker = world.worker(&[("WORKER_LEASE_MS", "60000")]);
    let id = world.sleep(60_000).await;
    world.until(id, JobState::Running).await;
    send(world.children(1, &[]).await[0], Signal::SIGSTOP);
    worker.signal(Signal::SIGQUIT);
    assert!(worker.ended().await);
    let job = world.job(id).await;
    assert_eq!(job.state, JobState::Queued, "{job:?}");
    assert!(world.failed_attempts(id).await.is_empty(), "the worker's end is not the job's failure");
}

#[tokio::test]
async fn what_outlasts_the_grace_is_handed_back() {
    let world = World::new().await;
    let worker = world.worker(&[("WORKER_GRACE_S", "0")]);
    let id = world.sleep(60_000).await;
    world.until(id, JobState::Running).await;
    worker.signal(Signal::SIGTERM);
    assert!(worker.ended().await);
    assert_eq!(world.job(id).await.state, JobState::Queued);
}

#[tokio::test]
async fn a_quiet_worker_finishes_and_leases_nothing_more() {
    let world = World::new().await;
    let worker = world.worker(&[]);
    let gate = Gate::new(&world).await;
    let running = gate.running().await;
    worker.signal(Signal::SIGTSTP);
    world.until_state(WorkerState::Quiet).await;
    let later = world.echo().await;
    gate.open();
    world.until(running, JobState::Succeeded).await;
    assert_eq!(world.job(later).await.state, JobState::Queued);
    let _other = world.worker(&[]);
    world.until(later, JobState::Succeeded).await;
}

#[tokio::test]
async fn leases_are_kept_alive_while_draining() {
    let world = World::new().await;
    let worker = world.worker(&[]);
    let gate = Gate::new(&world).await;
    let id = gate.running().await;
    let _other = world.worker(&[]);
    worker.signal(Signal::SIGTERM);
    // Two leases' length: it is their time that has to pass.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    gate.open();
    assert!(worker.ended().await);
    let job = world.job(id).await;
    assert_eq!((job.state, job.attempt), (JobState::Succeeded, 1), "{job:?}");
}

#[tokio::test]
async fn a_quiet_worker_leases_again_when_it_is_told_to_go_on() {
    let world = World::new().await;
    let worker = world.worker(&[]);
    world.children(1, &[]).await;
    worker.signal(Signal::SIGTSTP);
    world.until_state(WorkerState::Quiet).await;
    let id = world.echo().await;
    worker.signal(Signal::SIGCONT);
    world.until(id, JobState::Succeeded).await;
}

#[tokio::test]
async fn a_worker_is_told_from_afar_to_go_quiet_to_go_on_and_to_stop() {
    let world = World::new().await;
    let worker = world.worker(&[]);
    world.children(1, &[]).await;
    let tell = async |action: &str| {
        let id = world.workers().await[0].id.to_string();
        let output = world.command().args(["worker", action, &id]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    tell("quiet").await;
    world.until_state(WorkerState::Quiet).await;
    let id = world.echo().await;
    tell("resume").await;
    world.until(id, JobState::Succeeded).await;
    let gate = Gate::new(&world).await;
    let running = gate.running().await;
    tell("stop").await;
    world.until_state(WorkerState::Draining).await;
    gate.open();
    assert!(worker.ended().await);
    assert_eq!(world.job(running).await.state, JobState::Succeeded, "what runs is finished");
}
