//! Callers that wait for the end of their job.

use super::*;
use crate::jobs::{JobState, wait};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(20);

async fn submit_and_wait(fixture: &Fixture, patience: Duration) -> Job {
    let job = prepare(&fixture.ctx, &fixture.user, json!({"kind": "debug.echo"})).await.unwrap();
    wait::submit_and_wait(&fixture.ctx, job, patience, std::future::pending::<()>).await.unwrap()
}

/// Ends the next job that appears, and tells `channel` if there is one.
async fn end_the_next(fixture: &Fixture, channel: Option<String>) {
    let id: uuid::Uuid = loop {
        if let Some(id) = sqlx::query_scalar("SELECT id FROM jobs").fetch_optional(&fixture.ctx.pg).await.unwrap() {
            break id;
        }
        sleep(Duration::from_millis(5)).await;
    };
    fixture.end(JobId(id), "succeeded").await;
    if let Some(channel) = channel {
        let _: i64 = redis::cmd("PUBLISH")
            .arg(channel)
            .arg(format!("{id} succeeded"))
            .query_async(&mut fixture.ctx.redis.connection())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_end_is_heard() {
    let fixture = Fixture::new().await;
    let channel = Some(fixture.ctx.keys.job_ends());
    let (job, ()) = futures_util::future::join(submit_and_wait(&fixture, PATIENCE), end_the_next(&fixture, channel)).await;
    assert_eq!((job.state, job.result.unwrap().get()), (JobState::Succeeded, "{}"));
}

#[tokio::test]
async fn who_has_left_waits_no_longer() {
    let fixture = Fixture::new().await;
    let job = prepare(&fixture.ctx, &fixture.user, json!({"kind": "debug.echo"})).await.unwrap();
    let waiting = wait::submit_and_wait(&fixture.ctx, job, PATIENCE, || std::future::ready(()));
    assert_eq!(tokio::time::timeout(PATIENCE / 2, waiting).await.expect("its place is free").unwrap().state, JobState::Queued);
}

#[tokio::test]
async fn an_end_that_nobody_announced_is_found_by_looking() {
    let fixture = Fixture::with(&[("REDIS_URL", "redis://127.0.0.1:9/")]).await;
    let (job, ()) = futures_util::future::join(submit_and_wait(&fixture, PATIENCE), end_the_next(&fixture, None)).await;
    assert_eq!(job.state, JobState::Succeeded);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_any_more_was_accepted_all_the_same() {
    let fixture = Fixture::new().await;
    let delete = async {
        end_the_next(&fixture, None).await;
        sqlx::query("DELETE FROM jobs_ended").execute(&fixture.ctx.pg).await.unwrap();
    };
    let (job, ()) = futures_util::future::join(submit_and_wait(&fixture, PATIENCE), delete).await;
    assert!([JobState::Queued, JobState::Succeeded].contains(&job.state), "{job:?}");
    let hide = async {
        while fixture.count("jobs").await == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        sqlx::query("ALTER TABLE jobs RENAME TO hidden").execute(&fixture.ctx.pg).await.unwrap();
    };
    let (job, ()) = futures_util::future::join(submit_and_wait(&fixture, Duration::from_secs(1)), hide).await;
    assert_eq!(job.state, JobState::Queued);
}

#[tokio::test]
async fn patience_ends_with_the_job_as_it_stands() {
    let fixture = Fixture::new().await;
    let job = submit_and_wait(&fixture, Duration::from_millis(50)).await;
    assert_eq!(job.state, JobState::Queued);
    assert_eq!(fixture.ctx.jobs.waiters.n_waiting(), 0);
}

#[tokio::test]
async fn beyond_the_cap_callers_are_answered_at_once() {
    let fixture = Fixture::with(&[("WAIT_MAX", "0")]).await;
    let began = Instant::now();
    let job = submit_and_wait(&fixture, PATIENCE).await;
    assert_eq!(job.state, JobState::Queued);
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_process_that_stops_keeps_nobody_waiting() {
    let fixture = Fixture::new().await;
    let began = Instant::now();
    let stop = async {
        while fixture.ctx.jobs.waiters.n_waiting() == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        wait::end_all(&fixture.ctx);
    };
    let (job, ()) = futures_util::future::join(submit_and_wait(&fixture, PATIENCE), stop).await;
    assert_eq!(job.state, JobState::Queued);
    assert_eq!(submit_and_wait(&fixture, PATIENCE).await.state, JobState::Queued);
    assert!(began.elapsed() < PATIENCE);
}
