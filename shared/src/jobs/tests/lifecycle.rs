//! How queues come and go, who may make how many, and what two who change one at once do to each other.

use super::*;
use crate::{
    Code, Error,
    accounts::Origin as From,
    jobs::{QueueName, engine, queues, read},
};
use futures_util::future::join_all;

fn name(text: &str) -> QueueName {
    text.parse().unwrap()
}

fn patch(body: Value) -> queues::PatchQueue {
    serde_json::from_value(body).unwrap()
}

async fn delete(fixture: &Fixture, queue: &str) -> Result<()> {
    queues::delete(&fixture.ctx, &caller(Role::Operator), &name(queue), &From::default()).await
}

#[tokio::test]
async fn a_queue_with_nothing_to_do_is_deleted_and_its_ended_jobs_stay() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({"queue": "reports"})).await;
    assert_eq!(delete(&fixture, "reports").await.unwrap_err().code, Code::Conflict);
    fixture.end(job.id, "succeeded").await;
    delete(&fixture, "reports").await.unwrap();
    assert_eq!(delete(&fixture, "reports").await.unwrap_err().code, Code::NotFound);
    assert_eq!(read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap().queue.as_str(), "reports");
    assert_eq!(fixture.count("audit_log WHERE action = 'queue_deleted'").await, 1);
    let mut connection = fixture.ctx.redis.connection();
    let pattern = fixture.ctx.keys.queue("reports", "*");
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
    assert_eq!(engine::upkeep::prune(&fixture.ctx).await.unwrap(), 0);
    fixture.ctx.clock.advance(time::Duration::days(8));
    assert_eq!(engine::upkeep::prune(&fixture.ctx).await.unwrap(), 1, "and is pruned although its queue is gone");
}

#[tokio::test]
async fn the_default_queue_stays_and_users_delete_none() {
    let fixture = Fixture::new().await;
    assert_eq!(delete(&fixture, "default").await.unwrap_err().code, Code::Conflict);
    let refused = queues::delete(&fixture.ctx, &fixture.user, &name("default"), &From::default()).await.unwrap_err();
    assert_eq!(refused.code, Code::InsufficientScope);
}

#[tokio::test]
async fn a_job_that_slips_into_a_deleted_queue_brings_it_back() {
    let fixture = Fixture::new().await;
    let other_process = fixture.stores.context(&[]);
    let first = fixture.echo(json!({"queue": "reports"})).await;
    fixture.end(first.id, "succeeded").await;
    let prepared = prepare(&other_process, &fixture.user, json!({"kind": "debug.echo", "queue": "reports"})).await.unwrap();
    delete(&fixture, "reports").await.unwrap();
    submitting::submit(&other_process, prepared).await.unwrap();
    engine::reconcile::repair_rows(&fixture.ctx, uuid::Uuid::nil(), uuid::Uuid::max()).await.unwrap();
    let queue = queues::get(&fixture.ctx, &fixture.user, &name("reports")).await.unwrap();
    assert_eq!(queue.stats.queued, 1);
}

#[tokio::test]
async fn one_user_cannot_use_up_the_queues() {
    let fixture = Fixture::with(&[("QUEUES_MAX", "5"), ("QUEUES_PER_USER_MAX", "2")]).await;
    for queue in ["a", "b", "a"] {
        fixture.echo(json!({"queue": queue})).await;
    }
    let refused = fixture.submit(json!({"kind": "debug.echo", "queue": "c"})).await.unwrap_err();
    assert_eq!((refused.code, refused.fields[0].code.as_str()), (Code::ValidationFailed, "too_many_queues"));
    fixture.submit_as(&caller(Role::User), json!({"kind": "debug.echo", "queue": "c"})).await.unwrap();
    fixture.echo(json!({"queue": "c"})).await;
    let operator = caller(Role::Operator);
    fixture.submit_as(&operator, json!({"kind": "debug.echo", "queue": "d"})).await.unwrap();
    let refused = fixture.submit_as(&operator, json!({"kind": "debug.echo", "queue": "e"})).await.unwrap_err();
    assert_eq!(refused.fields[0].code, "too_many_queues");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn submits_at_once_make_no_more_queues_than_one_may() {
    let fixture = Fixture::with(&[("QUEUES_PER_USER_MAX", "3")]).await;
    let submits = (0..12).map(|n| fixture.submit(json!({"kind": "debug.echo", "queue": format!("q{n}")})));
    let answers = futures_util::future::join_all(submits).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    assert_eq!(fixture.count("queues WHERE created_by IS NOT NULL").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_at_once_lose_nothing_of_each_other() {
    let fixture = Fixture::new().await;
    let (ctx, operator, queue) = (&fixture.ctx, caller(Role::Operator), name("reports"));
    let nobody = &From::default();
    queues::update(ctx, &operator, &queue, &patch(json!({})), nobody, |_| Ok(())).await.unwrap();
    for round in 1..=10 {
        let bodies = [
            json!({"limits": {"max_depth": round}}),
            json!({"retention": {"dead_s": round}}),
            json!({"default_retry": {"max_attempts": round}}),
        ];
        let patches = bodies.map(patch);
        let updates = join_all(patches.iter().map(|patch| queues::update(ctx, &operator, &queue, patch, nobody, |_| Ok(()))));
        let (updated, paused) = futures_util::future::join(updates, queues::pause(ctx, &operator, &queue, nobody)).await;
        assert!(updated.iter().all(Result::is_ok) && paused.is_ok());
        let now = queues::get(ctx, &operator, &queue).await.unwrap();
        assert_eq!(
            (now.limits.max_depth, now.retention.dead_s, now.default_retry.max_attempts, now.paused),
            (Some(round), round.into(), round, true)
        );
        queues::resume(ctx, &operator, &queue, nobody).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_who_change_what_they_saw_one_is_refused() {
    let fixture = Fixture::new().await;
    let (ctx, operator, queue) = (&fixture.ctx, caller(Role::Operator), name("default"));
    let nobody = &From::default();
    let seen = queues::get(ctx, &operator, &queue).await.unwrap().settings;
    let changes = [1, 2].map(|depth| patch(json!({"limits": {"max_depth": depth}})));
    let as_seen = |settings: Option<&queues::QueueSettings>| {
        if settings == Some(&seen) { Ok(()) } else { Err(Error::new(Code::PreconditionFailed, "it changed")) }
    };
    let answers = join_all(changes.iter().map(|change| queues::update(ctx, &operator, &queue, change, nobody, as_seen))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
}

#[tokio::test]
async fn rates_are_those_of_the_counters_and_wear_off() {
    let fixture = Fixture::new().await;
    let (ctx, queue) = (&fixture.ctx, name("default"));
    let mut sampler = engine::rates::Sampler::default();
    sampler.sample(ctx, std::slice::from_ref(&queue)).await.unwrap();
    let unknown = engine::rates::rates(ctx, &queue).await.unwrap();
    assert_eq!(unknown, engine::rates::Rates::default());
    for _ in 0..5 {
        fixture.echo(json!({})).await;
    }
    let tokens = fixture.step(Step { want: 3, ..Step::default() }).await;
    fixture.finish(&tokens).await;
    sampler.sample(ctx, std::slice::from_ref(&queue)).await.unwrap();
    let stats = queues::get(ctx, &fixture.user, &queue).await.unwrap().stats;
    let (in_per_s, out_per_s) = (stats.in_per_s.unwrap(), stats.out_per_s.unwrap());
    assert!(in_per_s > out_per_s && out_per_s > 0.0, "{stats:?}");
    assert!((in_per_s * 3.0 - out_per_s * 5.0).abs() < 0.1, "five came and three ended in the same time: {stats:?}");
    assert!(stats.last_processed_at.is_some());
    // Another Redis counts from nothing: no rate is made of the difference.
    redis::cmd("HDEL")
        .arg(ctx.keys.queue("default", "cfg"))
        .arg("n_in")
        .arg("n_out")
        .exec_async(&mut ctx.redis.connection())
        .await
        .unwrap();
    sampler.sample(ctx, std::slice::from_ref(&queue)).await.unwrap();
    sampler.sample(ctx, std::slice::from_ref(&queue)).await.unwrap();
    let stats = queues::get(ctx, &fixture.user, &queue).await.unwrap().stats;
    assert_eq!((stats.in_per_s, stats.out_per_s), (Some(0.0), Some(0.0)));
}
