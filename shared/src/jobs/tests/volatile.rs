//! Queues with `durability: "redis"`: accepted, found and ended without a row.

use super::*;
use crate::{
    Code,
    jobs::{
        JobState, ListJobs, attempts, bulk,
        cancel::{self, Cancelled},
        delete, list,
        queues::{self, Purge},
        read,
    },
    page::PageRequest,
};

async fn set(fixture: &Fixture, durability: &str) -> Result<queues::Queue> {
    let patch = serde_json::from_value(json!({ "durability": durability })).unwrap();
    queues::update(&fixture.ctx, &caller(Role::Operator), &"default".parse().unwrap(), &patch, &crate::accounts::Origin::default(), |_| {
        Ok(())
    })
    .await
}

/// The default queue is one of Redis'.
async fn volatile() -> Fixture {
    let fixture = Fixture::new().await;
    set(&fixture, "redis").await.unwrap();
    fixture
}

async fn state_of(fixture: &Fixture, id: JobId) -> JobState {
    read::get(&fixture.ctx, &fixture.user, id).await.unwrap().state
}

#[tokio::test]
async fn a_job_is_found_by_its_id_although_it_has_no_row() {
    let fixture = volatile().await;
    let job = fixture.echo(json!({"payload": {"text": "x".repeat(5_000)}, "tags": ["a", "b"], "delay_ms": 60_000})).await;
    assert_eq!((job.state, fixture.count("jobs_all").await), (JobState::Scheduled, 0));
    let found = read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap();
    assert_eq!(serde_json::to_value(&found).unwrap(), serde_json::to_value(&job).unwrap());
    let stranger = read::get(&fixture.ctx, &caller(Role::User), job.id).await.unwrap_err();
    assert_eq!(stranger.code, Code::NotFound);
    let page = list::list(&fixture.ctx, &fixture.user, &ListJobs::default()).await.unwrap();
    assert!(page.items.is_empty(), "lists are read from PostgreSQL");
    let unknown = read::get(&fixture.ctx, &fixture.user, JobId::new()).await.unwrap_err();
    assert_eq!(unknown.code, Code::NotFound);
}

#[tokio::test]
async fn a_running_job_shows_its_lease_and_no_attempts_yet() {
    let fixture = volatile().await;
    let job = fixture.echo(json!({})).await;
    fixture.start().await;
    let found = read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap();
    assert_eq!((found.state, found.attempt, found.worker_id.as_deref()), (JobState::Running, 1, Some("w1")));
    let page = attempts::list(&fixture.ctx, &fixture.user, job.id, &PageRequest { limit: 10, before: None }).await.unwrap();
    assert!(page.items.is_empty());
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_into_a_row() {
    let fixture = volatile().await;
    let job = fixture.echo(json!({"tags": ["kept"], "payload": 7})).await;
    let Cancelled::Done(cancelled) = cancel::cancel(&fixture.ctx, &fixture.user, job.id).await.unwrap() else { panic!("it waited") };
    assert_eq!((cancelled.state, cancelled.payload.get(), &cancelled.tags), (JobState::Cancelled, "7", &job.tags));
    assert_eq!((cancelled.created_at, cancelled.run_at), (job.created_at, job.run_at));
    assert_eq!((fixture.count("jobs_ended").await, fixture.lease().await), (1, 0));
    let again = cancel::cancel(&fixture.ctx, &fixture.user, job.id).await.unwrap_err();
    assert_eq!(again.code, Code::JobFinished);
}

#[tokio::test]
async fn a_running_job_is_told_of_its_cancel_and_not_deleted() {
    let fixture = volatile().await;
    let job = fixture.echo(json!({})).await;
    fixture.start().await;
    assert!(matches!(cancel::cancel(&fixture.ctx, &fixture.user, job.id).await.unwrap(), Cancelled::Signalled(_)));
    assert_eq!(delete::delete(&fixture.ctx, &fixture.user, job.id).await.unwrap_err().code, Code::JobRunning);
    assert_eq!(state_of(&fixture, job.id).await, JobState::Running);
}

#[tokio::test]
async fn a_waiting_job_is_deleted_without_a_trace() {
    let fixture = volatile().await;
    let job = fixture.echo(json!({})).await;
    delete::delete(&fixture.ctx, &fixture.user, job.id).await.unwrap();
    assert_eq!(read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap_err().code, Code::NotFound);
    assert_eq!((fixture.count("jobs_all").await, fixture.lease().await), (0, 0));
}

#[tokio::test]
async fn a_purge_removes_what_waits_and_leaves_what_runs() {
    let fixture = volatile().await;
    let running = fixture.echo(json!({})).await;
    fixture.start().await;
    for fields in [json!({}), json!({"delay_ms": 60_000})] {
        fixture.echo(fields).await;
    }
    let purge = async |state| {
        queues::purge(
            &fixture.ctx,
            &caller(Role::Operator),
            &"default".parse().unwrap(),
            &Purge { state },
            &crate::accounts::Origin::default(),
        )
        .await
    };
    assert_eq!(purge(Some(JobState::Scheduled)).await.unwrap().removed, 1);
    assert_eq!(purge(None).await.unwrap().removed, 1);
    assert_eq!(state_of(&fixture, running.id).await, JobState::Running);
}

#[tokio::test]
async fn a_unique_key_is_refused() {
    let fixture = volatile().await;
    let error = fixture.submit(json!({"kind": "debug.echo", "unique": {"key": "k"}})).await.unwrap_err();
    assert_eq!((error.code, error.fields[0].pointer.as_str()), (Code::ValidationFailed, "/unique"));
}

#[tokio::test]
async fn durability_changes_only_while_there_is_nothing_to_do() {
    let fixture = Fixture::new().await;
    let durable = fixture.echo(json!({})).await;
    assert_eq!(set(&fixture, "redis").await.unwrap_err().code, Code::Conflict);
    cancel::cancel(&fixture.ctx, &fixture.user, durable.id).await.unwrap();
    assert_eq!(set(&fixture, "redis").await.unwrap().durability, queues::Durability::Redis);
    let job = fixture.echo(json!({})).await;
    assert_eq!(set(&fixture, "postgres").await.unwrap_err().code, Code::Conflict);
    set(&fixture, "redis").await.unwrap();
    cancel::cancel(&fixture.ctx, &fixture.user, job.id).await.unwrap();
    set(&fixture, "postgres").await.unwrap();
}

#[tokio::test]
async fn while_redis_is_away_submits_are_refused_and_nobody_says_that_a_job_is_gone() {
    let fixture = Fixture::with(&[("REDIS_URL", "redis://127.0.0.1:9/")]).await;
    sqlx::query("UPDATE queues SET durability = 'redis'").execute(&fixture.ctx.pg).await.unwrap();
    let error = fixture.submit(json!({"kind": "debug.echo"})).await.unwrap_err();
    assert!(error.code == Code::RedisUnavailable && error.retry_after.is_some(), "{error:?}");
    let unknown = read::get(&fixture.ctx, &fixture.user, JobId::new()).await.unwrap_err();
    assert_eq!(unknown.code, Code::RedisUnavailable);
    let durable = fixture.echo(json!({"queue": "other"})).await;
    assert_eq!((state_of(&fixture, durable.id).await, fixture.count("jobs_all").await), (JobState::Queued, 1));
}

#[tokio::test]
async fn a_bulk_may_be_of_both_kinds_but_not_all_or_nothing() {
    let fixture = volatile().await;
    let bodies = [json!({"kind": "debug.echo"}), json!({"kind": "debug.echo", "queue": "other"})];
    let prepare = async || {
        let items = bodies.iter().map(|body| Ok(parse(body.clone()))).collect();
        bulk::prepare(&fixture.ctx, &fixture.user, items, &Origin::default()).await.unwrap()
    };
    let refused = prepare().await.all_or_nothing(0).unwrap_err();
    assert_eq!(refused.fields.iter().map(|field| field.pointer.as_str()).collect::<Vec<_>>(), ["/jobs/0/queue"]);
    let verdicts = prepare().await.write(&fixture.ctx, None).await;
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    bulk::announce(&fixture.ctx, &verdicts).await;
    assert_eq!((fixture.count("jobs").await, fixture.lease().await), (1, 1), "each is written where it belongs, once");
}
