//! Queues with `durability: "redis"`, run by the real worker: every way such a job can end, and what survives.

use crate::world::{World, send};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shared::{
    ids::JobId,
    jobs::{JobState, cancel, queues},
};

/// A world whose `quick` queue is one of Redis'.
async fn world() -> World {
    let world = World::new().await;
    let patch = serde_json::from_value(json!({"durability": "redis"})).unwrap();
    queues::update(&world.ctx, &world.caller, &"quick".parse().unwrap(), &patch, &shared::accounts::Origin::default(), |_| Ok(()))
        .await
        .unwrap();
    world
}

async fn submit(world: &World, kind: &str, payload: Value, fields: Value) -> JobId {
    let mut body = json!({"kind": kind, "queue": "quick", "payload": payload, "retry": {"max_attempts": 3, "base_ms": 10, "max_ms": 20}});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    world.submit(body).await
}

async fn n_rows(world: &World, id: JobId) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM jobs_all WHERE id = $1").bind(id.0).fetch_one(&world.ctx.pg).await.unwrap()
}

#[tokio::test]
async fn a_job_is_found_before_it_runs_and_its_result_afterwards() {
    let world = world().await;
    let payload = json!({"text": "x".repeat(20_000)});
    let id = submit(&world, "debug.echo", payload.clone(), json!({"tags": ["kept"]})).await;
    let late = submit(&world, "debug.echo", json!(1), json!({"delay_ms": 500})).await;
    assert_eq!((world.job(id).await.state, world.job(late).await.state), (JobState::Queued, JobState::Scheduled));
    assert_eq!(n_rows(&world, id).await, 0);
    let _worker = world.worker(&[]);
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!(serde_json::from_str::<Value>(job.result.unwrap().get()).unwrap(), payload);
    assert_eq!((job.tags.as_slice(), job.attempt), (["kept".to_owned()].as_slice(), 1));
    let late = world.until(late, JobState::Succeeded).await;
    assert!(late.started_at.unwrap() >= late.run_at);
}

#[tokio::test]
async fn a_job_that_always_fails_is_dead_and_durable_once_it_is_requeued() {
    let world = world().await;
    let worker = world.worker(&[]);
    let id = submit(&world, "debug.fail", json!({"message": "no luck"}), json!({})).await;
    let job = world.until(id, JobState::Dead).await;
    assert_eq!((job.attempt, world.failed_attempts(id).await), (3, vec!["failed".to_owned(); 3]));
    drop(worker);
    shared::jobs::retry::retry(&world.ctx, &world.caller, id).await.unwrap();
    world.empty_redis().await;
    let _worker = world.worker(&[]);
    let job = world.until_job(id, "dead again", |job| job.attempt > 5 && job.state == JobState::Dead).await;
    assert_eq!(job.attempt, 6);
}

/// The worker would look again a minute later, long after the test gave up.
#[tokio::test]
async fn a_resumed_queue_wakes_the_jobs_that_wait_in_it() {
    let world = world().await;
    let quick = "quick".parse().unwrap();
    let origin = shared::accounts::Origin::default();
    let _worker = world.worker(&[("WORKER_POLL_MS", "60000")]);
    let first = submit(&world, "debug.echo", json!(1), json!({})).await;
    world.until(first, JobState::Succeeded).await;
    queues::pause(&world.ctx, &world.caller, &quick, &origin).await.unwrap();
    let held = submit(&world, "debug.echo", json!(2), json!({})).await;
    // What comes after it in another queue has run, and so its ring was heard.
    let other = world.echo().await;
    world.until(other, JobState::Succeeded).await;
    assert_eq!(world.job(held).await.state, JobState::Queued);
    queues::resume(&world.ctx, &world.caller, &quick, &origin).await.unwrap();
    world.until(held, JobState::Succeeded).await;
}

#[tokio::test]
async fn a_running_job_is_cancelled() {
    let world = world().await;
    let _worker = world.worker(&[]);
    let id = submit(&world, "debug.sleep", json!({"ms": 60_000}), json!({})).await;
    world.until_job(id, "at some percent", |job| job.progress.is_some()).await;
    cancel::cancel(&world.ctx, &world.caller, id).await.unwrap();
    world.until(id, JobState::Cancelled).await;
    assert_eq!(world.failed_attempts(id).await, ["cancelled"]);
}

#[tokio::test]
async fn a_job_whose_time_has_passed_is_expired_and_not_run() {
    let world = world().await;
    let at = world.ctx.clock.now() + time::Duration::milliseconds(300);
    let expires_at = at.format(&time::format_description::well_known::Rfc3339).unwrap();
    let id = submit(&world, "debug.echo", json!(1), json!({"expires_at": expires_at})).await;
    while world.ctx.clock.now() <= at {
        tokio::task::yield_now().await;
    }
    let _worker = world.worker(&[]);
    let job = world.until(id, JobState::Expired).await;
    assert_eq!((job.started_at, job.result.is_none()), (None, true));
}

#[tokio::test]
async fn a_killed_child_costs_no_job_and_doubles_no_result() {
    let world = world().await;
    let _worker = world.worker(&[]);
    let running = submit(&world, "debug.sleep", json!({"ms": 5_000}), json!({})).await;
    let mut jobs = vec![running];
    for n in 0..20 {
        jobs.push(submit(&world, "debug.sleep", json!({"ms": n}), json!({})).await);
    }
    world.until(running, JobState::Running).await;
    send(world.children(1, &[]).await[0], Signal::SIGKILL);
    for id in jobs {
        world.until(id, JobState::Succeeded).await;
        assert_eq!(n_rows(&world, id).await, 1);
    }
    assert_eq!(world.failed_attempts(running).await, ["crashed"]);
}

#[tokio::test]
async fn an_emptied_redis_loses_jobs_and_takes_new_ones() {
    let world = world().await;
    let worker = world.worker(&[]);
    let first = submit(&world, "debug.echo", json!(1), json!({})).await;
    world.until(first, JobState::Succeeded).await;
    let lost = submit(&world, "debug.echo", json!(1), json!({"delay_ms": 60_000})).await;
    world.empty_redis().await;
    let next = submit(&world, "debug.echo", json!(1), json!({})).await;
    world.until(next, JobState::Succeeded).await;
    let error = shared::jobs::read::get(&world.ctx, &world.caller, lost).await.unwrap_err();
    assert_eq!(error.code, shared::Code::NotFound);
    drop(worker);
}
