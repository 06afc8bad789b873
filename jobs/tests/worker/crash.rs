//! Processes that are killed: whatever was accepted ends all the same.

use crate::world::{World, gone, send};
use nix::sys::signal::Signal;
use serde_json::json;
use shared::jobs::JobState;

#[tokio::test]
async fn a_job_whose_child_is_killed_ends_in_the_childs_replacement() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let id = world.sleep(2_000).await;
    world.until(id, JobState::Running).await;
    let pid = world.children(1, &[]).await[0];
    send(pid, Signal::SIGKILL);
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!((job.attempt, world.failed_attempts(id).await), (2, vec!["lost".to_owned()]));
    assert_ne!(world.children(1, &[pid]).await[0], pid);
}

#[tokio::test]
async fn when_the_supervisor_is_killed_its_children_end_and_another_worker_finishes() {
    let world = World::new().await;
    let mut doomed = Some(world.worker(&[]));
    let id = world.sleep(3_000).await;
    world.until(id, JobState::Running).await;
    let pid = world.children(1, &[]).await[0];
    // Dropping kills the supervisor alone, with SIGKILL.
    drop(doomed.take());
    gone(pid).await;
    let _other = world.worker(&[]);
    world.until(id, JobState::Succeeded).await;
}

#[tokio::test]
async fn a_job_that_aborts_its_process_does_not_end_the_worker() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let pid = world.children(1, &[]).await[0];
    world.submit(json!({"kind": "debug.crash"})).await;
    gone(pid).await;
    assert_ne!(world.children(1, &[pid]).await[0], pid);
}

#[tokio::test]
async fn rows_that_were_never_announced_are_run() {
    let world = World::new().await;
    let id = world.echo().await;
    world.empty_redis().await;
    let _worker = world.worker(&[]);
    world.until(id, JobState::Succeeded).await;
}
