//! Redis forgets everything, is killed, or stops in its tracks while a worker runs.

use crate::world::{World, send};
use nix::sys::signal::Signal;
use serde_json::json;
use shared::{jobs::JobState, testing::RedisServer};
use std::time::Instant;

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

#[tokio::test]
async fn a_killed_redis_that_comes_back_is_consumed_from_again_by_itself() {
    let mut redis = RedisServer::start().await;
    let world = World::with_redis(&redis).await;
    // The reconciler and expiring leases would get there as well, some time: not in this test.
    let _worker = world.worker(&[("WORKER_RECONCILE_MS", "600000"), ("WORKER_LEASE_MS", "60000")]);
    let first = world.echo().await;
    world.until(first, JobState::Succeeded).await;
    let running = world.sleep(4_000).await;
    world.until(running, JobState::Running).await;
    redis.kill();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(world.echo().await);
    }
    redis.restart().await;
    let back = Instant::now();
    let fresh = world.echo().await;
    world.until(fresh, JobState::Succeeded).await;
    let first_after = back.elapsed();
    for id in waiting {
        world.until(id, JobState::Succeeded).await;
    }
    println!("redis-restart first_ms={} all_ms={}", first_after.as_millis(), back.elapsed().as_millis());
    let job = world.until(running, JobState::Succeeded).await;
    assert_eq!((job.attempt, world.failed_attempts(running).await.len()), (1, 0), "what ran meanwhile is settled afterwards");
}

/// A leader was lost after it had let this Redis be leased from, and before every copy had its place again.
#[tokio::test]
async fn a_rebuild_that_was_cut_short_is_made_by_the_next_leader() {
    let world = World::new().await;
    let first = world.echo().await;
    let worker = world.worker(&[]);
    world.until(first, JobState::Succeeded).await;
    worker.signal(Signal::SIGTERM);
    assert!(worker.ended().await);
    let job = world.echo().await;
    let key = |part: &str| world.ctx.keys.queue("default", part);
    let mut left = redis::pipe();
    left.hset(key("cfg"), "rebuilding", 1).ignore();
    left.del(key("ready:4")).ignore();
    left.exec_async(&mut world.ctx.redis.connection()).await.unwrap();
    let _worker = world.worker(&[]);
    world.until(job, JobState::Succeeded).await;
}

#[tokio::test]
async fn a_lease_whose_answer_got_lost_is_handed_back() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis).await;
    let _worker = world.worker(&[("WORKER_RECONCILE_MS", "600000"), ("WORKER_LEASE_MS", "60000")]);
    let first = world.echo().await;
    world.until(first, JobState::Succeeded).await;
    for _ in 0..3 {
        let mut jobs = Vec::new();
        for _ in 0..10 {
            jobs.push(world.submit(json!({"kind": "debug.echo", "delay_ms": 300})).await);
        }
        // They fall due, and are leased, by calls that nobody waits for any more when they are answered.
        send(redis.pid(), Signal::SIGSTOP);
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        send(redis.pid(), Signal::SIGCONT);
        for id in jobs {
            world.until(id, JobState::Succeeded).await;
        }
    }
}

#[tokio::test]
async fn an_outage_longer_than_a_lease_costs_no_attempt_that_lives_through_it() {
    let mut redis = RedisServer::start().await;
    let world = World::with_redis(&redis).await;
    // Two leases' length, and that is 1.5 s here: the fault itself is what takes its time.
    let outage = std::time::Duration::from_secs(3);
    let _worker = world.worker(&[("WORKER_RECONCILE_MS", "600000")]);
    let id = world.sleep(12_000).await;
    world.until(id, JobState::Running).await;
    redis.kill();
    tokio::time::sleep(outage).await;
    redis.restart().await;
    world.until(id, JobState::Running).await;
    send(redis.pid(), Signal::SIGSTOP);
    tokio::time::sleep(outage).await;
    send(redis.pid(), Signal::SIGCONT);
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!((job.attempt, world.failed_attempts(id).await.len()), (1, 0), "{job:?}");
}

/// `maxmemory` is reached: Redis refuses whatever would grow it. Submits are accepted all the same, and run once there is room.
#[tokio::test]
async fn a_full_redis_holds_jobs_up_and_loses_none() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis).await;
    let _worker = world.worker(&[]);
    let running = world.sleep(3_000).await;
    world.until(running, JobState::Running).await;
    let maxmemory = async |bytes: &str| {
        let mut connection = world.ctx.redis.connection();
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec_async(&mut connection).await.unwrap();
    };
    maxmemory("1").await;
    let refused = redis::cmd("SET").arg("full").arg(1).exec_async(&mut world.ctx.redis.connection()).await.unwrap_err();
    assert_eq!(refused.code(), Some("OOM"));
    let waiting = world.echo().await;
    assert_eq!(world.job(waiting).await.state, JobState::Queued);
    maxmemory("0").await;
    for id in [running, waiting] {
        world.until(id, JobState::Succeeded).await;
    }
}
