//! Redis forgets everything while a worker runs.

use crate::world::World;
use shared::jobs::JobState;

#[tokio::test]
async fn an_emptied_redis_loses_no_job() {
    let world = World::new().await;
    let _worker = world.worker(&[("WORKER_CONCURRENCY", "2")]);
    let first = world.echo().await;
    world.until(first, JobState::Succeeded).await;
    let mut jobs = vec![world.sleep(300).await];
    world.until(jobs[0], JobState::Running).await;
    for _ in 0..30 {
        jobs.push(world.sleep(20).await);
    }
    world.empty_redis().await;
    for _ in 0..5 {
        jobs.push(world.echo().await);
    }
    for id in jobs {
        let job = world.until(id, JobState::Succeeded).await;
        assert!(world.failed_attempts(id).await.is_empty(), "a loss of Redis is no failure of the job: {job:?}");
    }
}
