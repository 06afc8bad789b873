//! Processes that are killed: whatever was accepted ends all the same.

use crate::{
    held::Gate,
    world::{World, gone, send},
};
use nix::sys::signal::Signal;
use serde_json::json;
use shared::jobs::JobState;

#[tokio::test]
async fn a_job_whose_child_is_killed_ends_in_the_childs_replacement() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let gate = Gate::new(&world).await;
    let id = gate.running().await;
    let pid = world.children(1, &[]).await[0];
    send(pid, Signal::SIGKILL);
    gone(pid).await;
    gate.open();
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!((job.attempt, world.failed_attempts(id).await), (2, vec!["crashed".to_owned()]));
    assert_ne!(world.children(1, &[pid]).await[0], pid);
}

#[tokio::test]
async fn when_the_supervisor_is_killed_its_children_end_and_another_worker_finishes() {
    let world = World::new().await;
    let mut doomed = Some(world.worker(&[]));
    let gate = Gate::new(&world).await;
    let id = gate.running().await;
    let pid = world.children(1, &[]).await[0];
    // Dropping kills the supervisor alone, with SIGKILL.
    drop(doomed.take());
    gone(pid).await;
    gate.open();
    let _other = world.worker(&[]);
    world.until(id, JobState::Succeeded).await;
}

/// Long leases, so that nothing in these tests can come from one that expired.
const NO_EXPIRY: &[(&str, &str)] = &[("WORKER_LEASE_MS", "60000"), ("WORKER_CONCURRENCY", "4"), ("WORKER_CHILDREN", "1")];

#[tokio::test]
async fn a_job_that_aborts_its_process_is_dead_after_two_crashes_alone_and_its_neighbours_lose_nothing() {
    let world = World::new().await;
    let _worker = world.worker(NO_EXPIRY);
    let pid = world.children(1, &[]).await[0];
    let gate = Gate::new(&world).await;
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(gate.submit().await);
    }
    world.active(3).await;
    let poison = world.submit(json!({"kind": "debug.crash", "delay_ms": 300, "retry": {"base_ms": 10, "max_ms": 20}})).await;
    // It takes the fourth slot before the poison comes, which is urgent but waits for a slot like the others.
    let long = world.sleep(250).await;
    let mut reserved = Vec::new();
    for _ in 0..8 {
        reserved.push(world.sleep(10).await);
    }
    gone(pid).await;
    gate.open();
    let dead = world.until(poison, JobState::Dead).await;
    assert_eq!(world.failed_attempts(poison).await, ["crashed"; 3], "once in company, twice alone");
    assert_eq!((dead.error.unwrap().code.as_str(), world.failures(poison).await), ("poison", 0));
    for id in &running {
        assert_eq!(world.failed_attempts(*id).await, ["crashed"], "it ran when the process ended");
    }
    for id in running.into_iter().chain([long]).chain(reserved) {
        world.until(id, JobState::Succeeded).await;
        assert_eq!(world.failures(id).await, 0);
        assert!(world.failed_attempts(id).await.iter().all(|outcome| outcome == "crashed"), "{id}");
    }
}

#[tokio::test]
async fn what_a_crashed_child_had_in_reserve_runs_elsewhere_at_once_and_unspent() {
    let world = World::new().await;
    let _worker = world.worker(&[("WORKER_LEASE_MS", "60000"), ("WORKER_CONCURRENCY", "1")]);
    let pid = world.children(1, &[]).await[0];
    let running = world.sleep(60_000).await;
    world.until(running, JobState::Running).await;
    let mut reserved = Vec::new();
    for _ in 0..3 {
        reserved.push(world.sleep(10).await);
    }
    world.reserved(3).await;
    send(pid, Signal::SIGKILL);
    for id in reserved {
        let job = world.until(id, JobState::Succeeded).await;
        assert_eq!((job.attempt, world.failed_attempts(id).await.len()), (1, 0), "it never began, and began anew");
    }
}

#[tokio::test]
async fn killing_its_process_twice_does_not_kill_an_innocent_job() {
    let world = World::new().await;
    let _worker = world.worker(NO_EXPIRY);
    let pid = world.children(1, &[]).await[0];
    let gate = Gate::new(&world).await;
    let id = gate.submit().await;
    gate.was_reached(1).await;
    send(pid, Signal::SIGKILL);
    gate.was_reached(2).await;
    let alone = world.quarantine_child().await;
    send(alone, Signal::SIGKILL);
    gone(alone).await;
    gate.open();
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!((job.attempt, world.failed_attempts(id).await), (3, vec!["crashed".to_owned(); 2]));
    assert_eq!(world.failures(id).await, 0);
}

#[tokio::test]
async fn an_emptied_redis_forgets_no_crash() {
    let world = World::new().await;
    let _worker = world.worker(NO_EXPIRY);
    world.children(1, &[]).await;
    let retry = json!({"base_ms": 2_000, "max_ms": 2_000});
    let id = world.submit(json!({"kind": "debug.crash", "retry": retry})).await;
    for n_crashes in 1..3 {
        world.until_job(id, "crashed so often", |job| job.attempt == n_crashes && job.state != JobState::Running).await;
        world.empty_redis().await;
    }
    let dead = world.until(id, JobState::Dead).await;
    assert_eq!(dead.error.unwrap().code, "poison");
    let n_attempts = world.failed_attempts(id).await.len();
    assert!(n_attempts <= 4, "each loss of Redis may cost one unrecorded run, and no more: {n_attempts}");
}

#[tokio::test]
async fn rows_that_were_never_announced_are_run() {
    let world = World::new().await;
    let id = world.echo().await;
    world.empty_redis().await;
    let _worker = world.worker(&[]);
    world.until(id, JobState::Succeeded).await;
}
