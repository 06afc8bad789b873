//! Cancel, retry, delete and purge, each against waiting, running and ended jobs.

use super::*;
use crate::{
    Code, Scope,
    accounts::Origin as From,
    ids::{ApiKeyId, FileId},
    jobs::{
        JobState,
        cancel::{self, Cancelled},
        delete, engine,
        queues::{self, SelectDead},
        read, retry,
    },
};

async fn state_of(fixture: &Fixture, id: JobId) -> JobState {
    read::get(&fixture.ctx, &fixture.user, id).await.unwrap().state
}

async fn cancel(fixture: &Fixture, id: JobId) -> Result<Cancelled> {
    cancel::cancel(&fixture.ctx, &fixture.user, id).await
}

async fn purge(fixture: &Fixture, body: Value) -> Result<u64> {
    let body = serde_json::from_value(body).unwrap();
    let purged = queues::purge(&fixture.ctx, &caller(Role::Operator), &"default".parse().unwrap(), &body, &From::default()).await?;
    Ok(purged.removed)
}

#[tokio::test]
async fn a_running_job_is_shown_with_its_lease() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({})).await;
    fixture.start().await;
    let running = read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap();
    assert_eq!((running.state, running.attempt, running.worker_id.as_deref()), (JobState::Running, 1, Some("w1")));
    assert!(running.started_at.is_some());
    let query = serde_json::from_value(json!({"state": "running"})).unwrap();
    let page = crate::jobs::list::list(&fixture.ctx, &fixture.user, &query).await.unwrap();
    assert_eq!(page.items.iter().map(|job| job.id).collect::<Vec<_>>(), [job.id]);
    let query = serde_json::from_value(json!({"state": "queued"})).unwrap();
    assert!(crate::jobs::list::list(&fixture.ctx, &fixture.user, &query).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once() {
    let fixture = Fixture::new().await;
    for fields in [json!({}), json!({"delay_ms": 60_000})] {
        let job = fixture.echo(fields).await;
        let Cancelled::Done(cancelled) = cancel(&fixture, job.id).await.unwrap() else { panic!("nobody runs it") };
        assert_eq!(cancelled.state, JobState::Cancelled);
        assert!(cancelled.finished_at.is_some());
    }
    assert_eq!((fixture.count("jobs").await, fixture.lease().await), (0, 0));
}

#[tokio::test]
async fn a_running_job_is_told() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({})).await;
    fixture.start().await;
    assert!(matches!(cancel(&fixture, job.id).await.unwrap(), Cancelled::Signalled(_)));
    assert_eq!(state_of(&fixture, job.id).await, JobState::Running);
    assert!(matches!(cancel(&fixture, job.id).await.unwrap(), Cancelled::Signalled(_)));
}

#[tokio::test]
async fn an_ended_job_cannot_be_cancelled() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({})).await;
    fixture.end(job.id, "succeeded").await;
    assert_eq!(cancel(&fixture, job.id).await.unwrap_err().code, Code::JobFinished);
    assert_eq!(cancel(&fixture, JobId::new()).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn a_dead_job_comes_back_with_its_attempts_counted_on() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({"payload": {"a": 1}})).await;
    assert_eq!(fixture.lease().await, 1);
    fixture.end(job.id, "dead").await;
    let back = retry::retry(&fixture.ctx, &fixture.user, job.id).await.unwrap();
    assert_eq!((back.id, back.attempt, back.finished_at, back.payload.get()), (job.id, 1, None, r#"{"a":1}"#));
    assert_eq!((fixture.count("jobs").await, fixture.count("jobs_ended").await), (1, 0));
    let again = retry::retry(&fixture.ctx, &fixture.user, job.id).await.unwrap_err();
    assert_eq!(again.code, Code::JobNotDead);
    fixture.start().await;
    assert_eq!(read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap().attempt, 2);
}

/// A key of the fixture's user.
fn key(fixture: &Fixture, scopes: &[Scope]) -> Caller {
    let scopes = scopes.iter().copied().chain([Scope::JobsRead, Scope::JobsWrite]).collect();
    Caller::new(fixture.user.user_id, Role::Operator, scopes, Credential::ApiKey(ApiKeyId::new()))
}

#[tokio::test]
async fn who_could_not_submit_a_job_cannot_have_it_run_again() {
    let fixture = Fixture::new().await;
    let dead = async |kind: &str, payload: Value| {
        let job = fixture.echo(json!({"delay_ms": 60_000})).await;
        fixture.end(job.id, "dead").await;
        let told = "UPDATE jobs_ended SET kind = $2, payload = $3, error_code = 'x' WHERE id = $1";
        sqlx::query(told).bind(job.id.0).bind(kind).bind(payload).execute(&fixture.ctx.pg).await.unwrap();
        job.id
    };
    let inspect = |thumbnail: bool| json!({"file_id": FileId::new(), "thumbnail": thumbnail});
    for (kind, payload, missing, enough) in [
        ("tracks.report", json!({}), &[Scope::TracksRead][..], &[Scope::TracksRead, Scope::FilesWrite][..]),
        ("tracks.import", json!({}), &[Scope::TracksWrite], &[Scope::FilesRead, Scope::TracksWrite]),
        ("files.inspect", inspect(true), &[Scope::FilesRead], &[Scope::FilesRead, Scope::FilesWrite]),
        ("files.inspect", inspect(false), &[], &[Scope::FilesRead]),
        ("channel.publish", json!({}), &[], &[Scope::ChannelsPublish]),
        ("of.our.own", json!({}), &[], &[]),
    ] {
        let id = dead(kind, payload.clone()).await;
        if missing.len() < enough.len() {
            let refused = retry::retry(&fixture.ctx, &key(&fixture, missing), id).await.unwrap_err();
            assert_eq!(refused.code, Code::InsufficientScope, "{kind}");
            let operator = key(&fixture, &[missing, &[Scope::QueuesAdmin]].concat());
            let all: SelectDead = serde_json::from_value(json!({"all": true})).unwrap();
            let name = "default".parse().unwrap();
            let refused = queues::requeue_dead(&fixture.ctx, &operator, &name, &all, &From::default()).await.unwrap_err();
            assert_eq!(refused.code, Code::InsufficientScope, "{kind}");
            let operator = key(&fixture, &[enough, &[Scope::QueuesAdmin]].concat());
            assert_eq!(queues::requeue_dead(&fixture.ctx, &operator, &name, &all, &From::default()).await.unwrap().requeued, 1);
        }
        let id = dead(kind, payload).await;
        retry::retry(&fixture.ctx, &key(&fixture, enough), id).await.unwrap();
    }
    let of_operators = dead("mail.send", json!({})).await;
    assert_eq!(retry::retry(&fixture.ctx, &fixture.user, of_operators).await.unwrap_err().code, Code::Forbidden);
}

#[tokio::test]
async fn only_what_nobody_runs_is_deleted() {
    let fixture = Fixture::new().await;
    let running = fixture.echo(json!({})).await;
    fixture.start().await;
    let waiting = fixture.echo(json!({})).await;
    let ended = fixture.echo(json!({"delay_ms": 60_000})).await;
    fixture.end(ended.id, "succeeded").await;
    let refused = delete::delete(&fixture.ctx, &fixture.user, running.id).await.unwrap_err();
    assert_eq!(refused.code, Code::JobRunning);
    for id in [waiting.id, ended.id] {
        delete::delete(&fixture.ctx, &fixture.user, id).await.unwrap();
        assert_eq!(delete::delete(&fixture.ctx, &fixture.user, id).await.unwrap_err().code, Code::NotFound);
    }
    assert_eq!((state_of(&fixture, running.id).await, fixture.lease().await), (JobState::Running, 0));
}

#[tokio::test]
async fn strangers_change_nothing() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({})).await;
    let stranger = caller(Role::User);
    let answers = [
        cancel::cancel(&fixture.ctx, &stranger, job.id).await.err(),
        retry::retry(&fixture.ctx, &stranger, job.id).await.err(),
        delete::delete(&fixture.ctx, &stranger, job.id).await.err(),
    ];
    assert!(answers.iter().all(|error| error.as_ref().unwrap().code == Code::NotFound));
    delete::delete(&fixture.ctx, &caller(Role::Operator), job.id).await.unwrap();
}

#[tokio::test]
async fn a_purge_removes_what_waits_and_leaves_what_runs() {
    let fixture = Fixture::new().await;
    let running = fixture.echo(json!({})).await;
    fixture.start().await;
    for fields in [json!({}), json!({}), json!({"delay_ms": 60_000}), json!({"delay_ms": 60_000})] {
        fixture.echo(fields).await;
    }
    let dead = fixture.echo(json!({"delay_ms": 60_000})).await;
    fixture.end(dead.id, "dead").await;
    assert_eq!(purge(&fixture, json!({"state": "scheduled"})).await.unwrap(), 2);
    assert_eq!(purge(&fixture, json!({})).await.unwrap(), 2);
    assert_eq!(purge(&fixture, json!({})).await.unwrap(), 0);
    assert_eq!(purge(&fixture, json!({"state": "dead"})).await.unwrap(), 1);
    assert_eq!(purge(&fixture, json!({"state": "running"})).await.unwrap_err().code, Code::ValidationFailed);
    assert_eq!((state_of(&fixture, running.id).await, fixture.lease().await), (JobState::Running, 0));
    let depths = engine::depths(&fixture.ctx, &"default".parse().unwrap()).await.unwrap();
    assert_eq!((depths.running, depths.scheduled), (1, 1), "the dead job's copy is the reconciler's to remove");
}

#[tokio::test]
async fn a_purged_queue_has_room_again() {
    let fixture = Fixture::new().await;
    let (name, operator) = ("default".parse().unwrap(), caller(Role::Operator));
    let patch = serde_json::from_value(json!({"limits": {"max_depth": 1}})).unwrap();
    queues::update(&fixture.ctx, &operator, &name, &patch, &From::default(), |_| Ok(())).await.unwrap();
    fixture.echo(json!({})).await;
    assert_eq!(fixture.submit(json!({"kind": "debug.echo"})).await.unwrap_err().code, Code::QueueFull);
    assert_eq!(purge(&fixture, json!({})).await.unwrap(), 1);
    fixture.echo(json!({})).await;
}

/// Redis counts deliveries that came back unspent; the row does not know of them.
#[tokio::test]
async fn what_was_delivered_in_vain_is_deleted_and_purged() {
    let fixture = Fixture::new().await;
    let (deleted, purged) = (fixture.echo(json!({})).await, fixture.echo(json!({})).await);
    let leased = fixture.step(Step { want: 2, ..Step::default() }).await;
    let back = leased.into_iter().map(|token| Finish {
        token,
        action: Action::Release,
        standing: Standing { priority: 4, attempt: token.attempt, failures: 0, snoozes: 0, returns: 1, crashes: 0 },
    });
    fixture.step(Step { finish: back.collect(), ..Step::default() }).await;
    delete::delete(&fixture.ctx, &fixture.user, deleted.id).await.unwrap();
    let all = queues::Purge::default();
    let removed =
        queues::purge(&fixture.ctx, &caller(Role::Operator), &"default".parse().unwrap(), &all, &From::default()).await.unwrap().removed;
    assert_eq!((removed, fixture.count("jobs").await), (1, 0), "{} too", purged.id);
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_deleted_and_cancels_are_kept() {
    let fixture = Fixture::with(&[("REDIS_URL", "redis://127.0.0.1:9/")]).await;
    let job = fixture.echo(json!({})).await;
    let refused = delete::delete(&fixture.ctx, &fixture.user, job.id).await.unwrap_err();
    assert_eq!(refused.code, Code::RedisUnavailable);
    assert!(matches!(cancel(&fixture, job.id).await.unwrap(), Cancelled::Signalled(_)));
    assert_eq!(fixture.count("jobs WHERE cancel_requested_at IS NOT NULL").await, 1);
}
