//! Children that are replaced: after so many jobs, and when they have grown too large. Nothing is lost by it and nothing runs twice.

use crate::{held::Gate, world::World};
use serde_json::json;
use shared::{
    ids::JobId,
    jobs::{JobState, workers::Worker},
};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

impl World {
    async fn submit_sleeps(&self, n_jobs: usize, ms: u64) -> Vec<JobId> {
        let mut ids = Vec::with_capacity(n_jobs);
        while ids.len() < n_jobs {
            let submits = (0..(n_jobs - ids.len()).min(2)).map(|_| self.submit(json!({"kind": "debug.sleep", "payload": {"ms": ms}})));
            ids.extend(futures_util::future::join_all(submits).await);
        }
        ids
    }

    /// How many jobs have ended in which state and after how many deliveries, once all have.
    async fn ledger(&self, n_jobs: usize) -> Vec<(String, i32, i64)> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let n_ended: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs_ended").fetch_one(&self.ctx.pg).await.unwrap();
            if usize::try_from(n_ended).unwrap() >= n_jobs {
                break;
            }
            assert!(Instant::now() < deadline, "{n_ended} of {n_jobs} jobs have ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let ledger =
            "SELECT state, attempt, count(*) FROM jobs_ended WHERE kind = 'debug.sleep' GROUP BY state, attempt ORDER BY state, attempt";
        sqlx::query_as(ledger).fetch_all(&self.ctx.pg).await.unwrap()
    }

    /// The most jobs that slept at once, of `ms` each: from when each started, for as long as it slept at least.
    async fn most_asleep(&self, ms: i64) -> i64 {
        let overlaps = "WITH ends AS (
                SELECT started_at AS at, 1 AS change FROM jobs_ended
                UNION ALL SELECT started_at + $1 * interval '1 ms', -1 FROM jobs_ended)
            SELECT max(n) FROM (SELECT sum(change) OVER (ORDER BY at, change) AS n FROM ends) AS levels";
        sqlx::query_scalar(overlaps).bind(ms).fetch_one(&self.ctx.pg).await.unwrap()
    }

    /// The most that one worker had leased at once, as Redis had it until all jobs had ended.
    async fn most_leased(&self, n_jobs: usize) -> usize {
        let mut n_most = 0;
        loop {
            let mut by_worker = HashMap::<String, usize>::new();
            for lease in self.leases().await {
                *by_worker.entry(lease.worker_id).or_default() += 1;
            }
            n_most = by_worker.into_values().chain([n_most]).max().unwrap_or(0);
            let n_ended: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs_ended").fetch_one(&self.ctx.pg).await.unwrap();
            if usize::try_from(n_ended).unwrap() >= n_jobs {
                return n_most;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn done(workers: &[Worker]) -> u64 {
    workers.iter().map(|worker| worker.counts.done).sum()
}

async fn recycle(n_jobs: usize) {
    let world = World::new().await;
    let settings = [
        ("WORKER_MAX_TASKS_PER_CHILD", "50"),
        ("WORKER_CONCURRENCY", "12"),
        ("WORKER_CHILDREN", "2"),
        ("WORKER_LEASE_MS", "60000"),
        ("WORKER_HEARTBEAT_MS", "10000"),
    ];
    let _workers = [world.worker(&settings), world.worker(&settings)];
    world.children(4, &[]).await;
    let submitting = world.submit_sleeps(n_jobs, 20);
    let (_, n_leased) = tokio::join!(submitting, world.most_leased(n_jobs));
    let ledger = world.ledger(n_jobs).await;
    assert_eq!(ledger, [("succeeded".to_owned(), 1, i64::try_from(n_jobs).unwrap())], "none lost, none delivered twice");
    assert!(n_leased <= 12 * 4, "{n_leased} leased at once by one worker: replacing holds no more than the prefetch");
    let n_asleep = world.most_asleep(20).await;
    assert!(n_asleep <= 24, "{n_asleep} ran at once on two workers of 12");
    let workers = world.until_workers("with every job counted", |workers| done(workers) == n_jobs as u64).await;
    assert!(workers.iter().all(|worker| worker.counts.done > 0), "one did it all: {workers:?}");
}

#[tokio::test]
async fn children_are_replaced_after_so_many_jobs_without_losing_or_repeating_one() {
    recycle(2_000).await;
}

#[tokio::test]
#[ignore = "takes half a minute: cargo test -p jobs --test worker -- --ignored twenty_thousand"]
async fn twenty_thousand_jobs_through_children_of_fifty_jobs_each() {
    recycle(20_000).await;
}

#[tokio::test]
async fn a_child_that_is_replaced_finishes_what_runs_and_its_slots_move_one_by_one() {
    let world = World::new().await;
    let _worker = world.worker(&[("WORKER_MAX_TASKS_PER_CHILD", "3"), ("WORKER_CONCURRENCY", "2"), ("WORKER_LEASE_MS", "60000")]);
    let first = world.children(1, &[]).await[0];
    let gate = Gate::new(&world).await;
    let long = gate.running().await;
    let short = world.submit_sleeps(4, 10).await;
    for id in &short {
        world.until(*id, JobState::Succeeded).await;
    }
    // The long one keeps its child, which has run its three, and its slot; the other one has moved on, perhaps twice.
    assert_eq!(world.job(long).await.state, JobState::Running);
    let pids: HashSet<u32> = world
        .until_workers("two children", |workers| workers.iter().any(|w| w.children.len() >= 2))
        .await
        .iter()
        .flat_map(|worker| &worker.children)
        .map(|child| child.pid)
        .collect();
    assert!(pids.contains(&first), "the first child is there until its long job has ended");
    world.submit_sleeps(2, 60_000).await;
    world.active(2).await;
    gate.open();
    let job = world.until(long, JobState::Succeeded).await;
    assert_eq!(job.attempt, 1);
    world.active(2).await;
}

#[tokio::test]
async fn a_child_that_has_grown_too_large_hands_back_what_waits_and_makes_room() {
    let world = World::new().await;
    let settings = [("WORKER_MAX_MEMORY_PER_CHILD_KB", "200000"), ("WORKER_CONCURRENCY", "1"), ("WORKER_LEASE_MS", "60000")];
    let _worker = world.worker(&settings);
    let first = world.children(1, &[]).await[0];
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(world.submit(json!({"kind": "debug.leak", "payload": {"mb": 150}})).await);
    }
    for id in jobs {
        let job = world.until(id, JobState::Succeeded).await;
        assert_eq!((job.attempt, world.failed_attempts(id).await.len()), (1, 0), "{job:?}");
    }
    world.children(1, &[first]).await;
}
