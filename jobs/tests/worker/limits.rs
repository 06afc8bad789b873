//! Limits of a queue over several workers, and that those who wait for room are woken when there is some.

use crate::world::World;
use serde_json::json;
use shared::{
    ids::JobId,
    jobs::{
        Job, JobState,
        queues::{self, PatchQueue},
    },
};
use time::OffsetDateTime;

impl World {
    async fn limit(&self, limits: serde_json::Value) {
        let patch: PatchQueue = serde_json::from_value(json!({ "limits": limits })).unwrap();
        queues::update(&self.ctx, &self.caller, &"default".parse().unwrap(), &patch, &Default::default(), |_| Ok(())).await.unwrap();
    }

    async fn sleeps(&self, n: usize, key: Option<&str>) -> Vec<JobId> {
        let mut ids = Vec::new();
        for _ in 0..n {
            ids.push(self.submit(json!({"kind": "debug.sleep", "payload": {"ms": 50}, "concurrency_key": key})).await);
        }
        ids
    }

    async fn all_ended(&self, ids: &[JobId]) -> Vec<Job> {
        let mut jobs = Vec::new();
        for id in ids {
            jobs.push(self.until(*id, JobState::Succeeded).await);
        }
        jobs
    }
}

/// How many of `jobs` ran at the same time, at most.
fn most_at_once(jobs: &[Job]) -> usize {
    let span = |job: &Job| -> (OffsetDateTime, OffsetDateTime) { (job.started_at.unwrap(), job.finished_at.unwrap()) };
    let running_at = |at: OffsetDateTime| jobs.iter().map(span).filter(|(from, until)| *from <= at && at < *until).count();
    jobs.iter().map(|job| running_at(span(job).0)).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_keep_to_the_limits_of_a_queue_and_go_on_as_soon_as_there_is_room() {
    let world = World::new().await;
    world.limit(json!({"concurrency": 3})).await;
    let _workers = [world.worker(&[]), world.worker(&[])];
    world.children(2, &[]).await;
    let (plain, keyed) = (world.sleeps(8, None).await, world.sleeps(5, Some("one at a time")).await);
    let (plain, keyed) = (world.all_ended(&plain).await, world.all_ended(&keyed).await);
    assert_eq!(most_at_once(&keyed), 1);
    let all = [plain, keyed].concat();
    assert!(most_at_once(&all) <= 3, "{} ran at once", most_at_once(&all));
    world.limit(json!({"rate": {"limit": 5, "per_ms": 500}})).await;
    let ids = world.sleeps(11, None).await;
    let started = world.all_ended(&ids).await.iter().map(|job| job.started_at.unwrap()).collect::<Vec<_>>();
    let took = *started.iter().max().unwrap() - *started.iter().min().unwrap();
    assert!(took >= time::Duration::milliseconds(400), "five at once, then one per 100 ms: {took}");
}
