//! A process that is stopped for longer than its leases last, and then goes on as if nothing had been.

use crate::{
    held::Gate,
    world::{World, send},
};
use nix::sys::signal::Signal;
use shared::jobs::JobState;

#[tokio::test]
async fn a_child_that_was_stopped_beyond_its_lease_changes_nothing_when_it_goes_on() {
    let world = World::new().await;
    let _first = world.worker(&[]);
    let gate = Gate::new(&world).await;
    let id = gate.submit().await;
    let started = world.until(id, JobState::Running).await;
    gate.was_reached(1).await;
    let stopped = world.children(1, &[]).await[0];
    send(stopped, Signal::SIGSTOP);
    let second = world.worker(&[]);
    gate.was_reached(2).await;
    gate.open();
    let ended = world.until(id, JobState::Succeeded).await;
    assert_eq!((ended.attempt, world.failed_attempts(id).await), (2, vec!["lost".to_owned()]));
    assert_ne!(ended.worker_id, started.worker_id);
    drop(second);
    // Its handler has its answer by now: the outcome is the first thing it wants to settle, before it leases anything more.
    send(stopped, Signal::SIGCONT);
    let next = world.echo().await;
    let next = world.until(next, JobState::Succeeded).await;
    assert_eq!(next.worker_id, started.worker_id, "it works on");
    let job = world.job(id).await;
    assert_eq!((job.attempt, job.worker_id, job.finished_at), (ended.attempt, ended.worker_id, ended.finished_at));
    assert_eq!(world.failed_attempts(id).await, ["lost"]);
}
