//! From submit to the recorded end, for every way an attempt can end.

use crate::world::World;
use serde_json::json;
use shared::jobs::{Job, JobState, QueueName, queues};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_submitted_job_is_run_and_its_result_kept() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let id = world.echo().await;
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!(job.result.unwrap().get(), r#"{"hello":"world"}"#);
    assert_eq!(job.attempt, 1);
    assert!(job.started_at.is_some() && job.finished_at >= job.started_at && job.worker_id.is_some());
}

#[tokio::test]
async fn a_job_of_a_queue_that_did_not_exist_is_run() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    world.children(1, &[]).await;
    let id = world.submit(json!({"kind": "debug.echo", "queue": "brand-new"})).await;
    world.until(id, JobState::Succeeded).await;
}

#[tokio::test]
async fn a_large_payload_reaches_its_handler() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let payload = json!({"text": "x".repeat(50_000)});
    let id = world.submit(json!({"kind": "debug.echo", "payload": payload})).await;
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(job.result.unwrap().get()).unwrap(), payload);
}

#[tokio::test]
async fn a_delayed_job_is_run_when_it_is_due() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let id = world.submit(json!({"kind": "debug.echo", "delay_ms": 700})).await;
    let job = world.until(id, JobState::Succeeded).await;
    assert!(job.started_at.unwrap() >= job.run_at, "{job:?}");
}

#[tokio::test]
async fn a_job_that_always_fails_is_dead_with_each_attempt_noted() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let retry = json!({"max_attempts": 3, "base_ms": 10, "max_ms": 20});
    let id = world.submit(json!({"kind": "debug.fail", "payload": {"message": "no luck"}, "retry": retry})).await;
    let job = world.until(id, JobState::Dead).await;
    assert_eq!(job.error.map(|error| (error.code, error.message)), Some(("debug_fail".to_owned(), "no luck".to_owned())));
    assert_eq!((job.attempt, world.failed_attempts(id).await), (3, vec!["failed".to_owned(); 3]));
}

#[tokio::test]
async fn a_handler_gets_its_payload_and_none_that_is_not_one() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let id = world.submit(json!({"kind": "debug.sleep", "payload": {"ms": 1}})).await;
    assert_eq!(world.until(id, JobState::Succeeded).await.result.unwrap().get(), "null");
    for payload in [json!({"ms": "soon"}), json!({"ms": 1, "why": "tired"}), json!(null)] {
        let id = world.submit(json!({"kind": "debug.sleep", "payload": payload})).await;
        assert_eq!(world.until(id, JobState::Dead).await.error.unwrap().code, "undecodable_payload");
    }
}

#[tokio::test]
async fn an_undecodable_payload_is_a_dead_letter_and_not_a_dead_worker() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let id = world.submit(json!({"kind": "debug.sleep", "payload": {"ms": "soon"}})).await;
    let job = world.until(id, JobState::Dead).await;
    assert_eq!((job.error.unwrap().code.as_str(), job.attempt), ("undecodable_payload", 1));
    let after = world.echo().await;
    world.until(after, JobState::Succeeded).await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_times_out() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let retry = json!({"max_attempts": 2, "base_ms": 10, "max_ms": 20});
    let id = world.submit(json!({"kind": "debug.sleep", "payload": {"ms": 60_000}, "timeout_ms": 100, "retry": retry})).await;
    let job = world.until(id, JobState::Dead).await;
    assert_eq!(job.error.unwrap().code, "timeout");
    assert_eq!(world.failed_attempts(id).await, ["timeout", "timeout"]);
}

#[tokio::test]
async fn the_workers_own_limit_ends_attempts_too() {
    let world = World::new().await;
    let _worker = world.worker(&[("WORKER_TIME_LIMIT_S", "1")]);
    let retry = json!({"max_attempts": 1});
    let id = world.submit(json!({"kind": "debug.sleep", "payload": {"ms": 60_000}, "retry": retry})).await;
    assert_eq!(world.until(id, JobState::Dead).await.error.unwrap().code, "timeout");
}

#[tokio::test]
async fn a_job_whose_time_has_passed_is_expired_and_not_run() {
    let world = World::new().await;
    let at = world.ctx.clock.now() + time::Duration::milliseconds(300);
    let expires_at = at.format(&time::format_description::well_known::Rfc3339).unwrap();
    let id = world.submit(json!({"kind": "debug.echo", "expires_at": expires_at})).await;
    while world.ctx.clock.now() <= at {
        tokio::task::yield_now().await;
    }
    let _worker = world.worker(&[]);
    let job = world.until(id, JobState::Expired).await;
    assert_eq!((job.started_at, job.result.is_none()), (None, true));
}

#[tokio::test]
async fn a_result_that_is_too_long_is_a_dead_letter_and_not_a_dead_worker() {
    let world = World::new().await;
    let _worker = world.worker(&[("MAX_PAYLOAD_BYTES", "16KiB")]);
    // What this test may submit, its worker may not return.
    let id = world.submit(json!({"kind": "debug.echo", "payload": {"text": "x".repeat(200_000)}})).await;
    let job = world.until(id, JobState::Dead).await;
    assert_eq!((job.error.unwrap().code.as_str(), job.attempt), ("result_rejected", 1));
    let after = world.echo().await;
    world.until(after, JobState::Succeeded).await;
}

#[tokio::test]
async fn a_running_job_shows_how_far_it_is_and_an_ended_one_does_not() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let id = world.sleep(6_000).await;
    let is_past = |percent: f64| move |job: &Job| job.progress.as_ref().is_some_and(|progress| progress.percent > percent);
    let job = world.until_job(id, "at some percent", is_past(0.0)).await;
    assert_eq!(job.progress.unwrap().message.as_deref(), Some("sleeping"));
    world.until_job(id, "further on", is_past(50.0)).await;
    world.until_active(id, |active| active.progress.as_ref().is_some_and(|progress| progress.percent > 0.0)).await;
    assert_eq!(world.until(id, JobState::Succeeded).await.progress, None);
}

#[tokio::test]
async fn several_workers_tell_together_how_fast_a_queue_goes() {
    let world = World::new().await;
    let _workers = [world.worker(&[("WORKER_POLL_MS", "100")]), world.worker(&[("WORKER_POLL_MS", "100")])];
    world.children(2, &[]).await;
    for _ in 0..20 {
        let id = world.echo().await;
        world.until(id, JobState::Succeeded).await;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stats = queues::get(&world.ctx, &world.caller, &QueueName::default()).await.unwrap().stats;
        let is_moving = stats.in_per_s.is_some_and(|rate| rate > 0.0) && stats.out_per_s.is_some_and(|rate| rate > 0.0);
        if is_moving && stats.pickup_p50_ms.is_some() && stats.last_processed_at.is_some() {
            assert!(stats.pickup_p50_ms <= stats.pickup_p99_ms, "{stats:?}");
            break;
        }
        assert!(Instant::now() < deadline, "the queue never was told to move: {stats:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
