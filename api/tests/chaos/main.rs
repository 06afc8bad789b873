//! The ledger under chaos: twenty thousand jobs are submitted, cancelled, expired and run while workers, API, Redis and
//! PostgreSQL are killed, stopped and emptied in turn. At the end every accepted job has ended exactly once.
//!
//! A second test holds the books of points the same way: accepted, they are stored once or dead.
//!
//! A third and a fourth test do the same with jobs on several Redis servers, whose masters are killed and stopped in their tracks, and so do
//! two more with the subscribers of channels in the place of jobs.
//!
//! Run by `infra/local/chaos` and `infra/local/failover` alone: it needs servers of its own, and takes most of a minute. Nothing here asserts a time
//! but the limit of the whole run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod channels;
mod client;
mod failover;
mod faults;
mod ledger;
mod mixture;
mod points;
mod processes;
mod programs;
mod report;
mod runs;
mod servers;
#[path = "../sockets/mod.rs"]
#[expect(dead_code, reason = "the tests of two processes need more of it")]
mod sockets;
mod submitter;

use faults::{Fault, World};
use ledger::Ledger;
use report::{Report, Struck};
use shared::testing::RedisTopology;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use submitter::Accepted;

/// Jobs of one run.
const N_JOBS: usize = 20_000;
/// Jobs of a run on several Redis servers.
const N_JOBS_FAILED_OVER: usize = 6_000;
/// Batches of such a run's stage that are submitted once the fault has struck, whatever is done with the others by then.
const LATE: usize = 2;
/// What is not over by then hangs.
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "kills its servers and takes a minute: make chaos"]
async fn every_accepted_job_ends_once_whatever_is_killed() {
    account_for(World::start().await, N_JOBS, Fault::ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "kills its servers and takes a while: make chaos"]
async fn every_accepted_point_is_stored_once_or_dead_whatever_is_killed() {
    points::account_for_points().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts six servers and fails two of them over: infra/local/failover"]
async fn every_accepted_job_ends_once_across_failovers_of_sentinel() {
    account_for(World::with_redis(RedisTopology::sentinel()).await, N_JOBS_FAILED_OVER, Fault::FAILOVERS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts six servers and fails two of them over: infra/local/failover"]
async fn every_accepted_job_ends_once_across_failovers_of_a_cluster() {
    account_for(World::with_redis(RedisTopology::cluster()).await, N_JOBS_FAILED_OVER, Fault::FAILOVERS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts six servers and fails two of them over: infra/local/failover"]
async fn every_subscriber_hears_again_across_failovers_of_sentinel() {
    channels::follow_across_failovers(RedisTopology::sentinel()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts six servers and fails two of them over: infra/local/failover"]
async fn every_subscriber_hears_again_across_failovers_of_a_cluster() {
    channels::follow_across_failovers(RedisTopology::cluster()).await;
}

async fn account_for(mut world: World, n_jobs: usize, faults: &[Fault]) {
    let began = Instant::now();
    let accepted = Arc::new(Accepted::default());
    let report = tokio::time::timeout(LIMIT, run(&mut world, &accepted, n_jobs, faults)).await;
    let Ok(report) = report else {
        let (left, logs) = (ledger::what_is_left(&world).await, world.programs.logs.display());
        panic!("not over after {} s; the logs are in {logs}, and left is\n{left}", LIMIT.as_secs());
    };
    report.print(began.elapsed());
    assert_eq!(report.findings(), Vec::<String>::new(), "the logs are in {}", world.programs.logs.display());
    std::fs::remove_dir_all(&world.programs.logs).unwrap();
}

/// One stage for each fault: its share of the jobs is on its way in when the fault strikes, and wholly in when the next begins.
async fn run(world: &mut World, accepted: &Arc<Accepted>, n_jobs: usize, faults: &[Fault]) -> Report {
    let batches: Vec<usize> = (0..n_jobs / mixture::BATCH).collect();
    let mut struck = Vec::new();
    for (stage, fault) in batches.chunks(batches.len().div_ceil(faults.len())).zip(faults) {
        let (n_before, since) = (accepted.len(), Instant::now());
        if fault.strikes_a_backlog() {
            world.hold_jobs().await;
        }
        let (at_once, late) = stage.split_at(stage.len() - if fault.strikes_a_backlog() { LATE } else { 0 });
        let submit = |batches: &[usize], start| submitter::submit(world.client.clone(), Arc::clone(accepted), batches.to_vec(), start);
        let submitting = submit(at_once, None);
        let n_middle = stage.len() * mixture::BATCH * if fault.strikes_a_backlog() { 2 } else { 1 } / 3;
        let mut n_pending = world.until_in_the_middle(|| accepted.len() - n_before > n_middle).await;
        if fault.strikes_a_backlog() {
            n_pending = world.release_jobs().await;
        }
        let after = submit(late, Some(world.struck()));
        world.strike(*fault).await;
        for submitting in [submitting, after] {
            submitting.await.unwrap();
        }
        struck.push(Struck { fault: *fault, n_pending, took: since.elapsed() });
    }
    ledger::until_drained(world).await;
    let ledger = Ledger::read(world, accepted).await;
    Report::new(struck, accepted, ledger, &world.client)
}
