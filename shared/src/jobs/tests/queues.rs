//! Queues: made on first use, changed by operators, counted truly.

use super::*;
use crate::{
    Code,
    jobs::{QueueName, queues},
    page::PageRequest,
};
use rstest::rstest;

fn name(text: &str) -> QueueName {
    text.parse().unwrap()
}

async fn update(fixture: &Fixture, caller: &Caller, patch: Value) -> Result<queues::Queue> {
    let patch = serde_json::from_value(patch).unwrap();
    queues::update(&fixture.ctx, caller, &name("reports"), &patch, &crate::accounts::Origin::default(), |_| Ok(())).await
}

#[tokio::test]
async fn a_queue_comes_to_be_with_its_first_job() {
    let fixture = Fixture::new().await;
    let unknown = queues::get(&fixture.ctx, &fixture.user, &name("reports")).await.unwrap_err();
    assert_eq!(unknown.code, Code::NotFound);
    fixture.echo(json!({"queue": "reports"})).await;
    fixture.echo(json!({"queue": "reports", "delay_ms": 60_000})).await;
    let dead = fixture.echo(json!({"queue": "reports"})).await;
    fixture.end(dead.id, "dead").await;
    let queue = queues::get(&fixture.ctx, &fixture.user, &name("reports")).await.unwrap();
    assert_eq!((queue.stats.queued, queue.stats.scheduled, queue.stats.dead, queue.stats.running), (1, 1, 1, 0));
    assert!(queue.stats.oldest_ready_age_ms.is_some());
}

#[tokio::test]
async fn queues_are_listed_by_name() {
    let fixture = Fixture::new().await;
    for queue in ["zeta", "alpha"] {
        fixture.echo(json!({"queue": queue})).await;
    }
    let first = queues::list(&fixture.ctx, &fixture.user, &PageRequest { limit: 2, before: None }).await.unwrap();
    assert_eq!(first.items.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), ["alpha", "default"]);
    let request = crate::page::page_request(Some(2), first.next_cursor.as_deref()).unwrap();
    let second = queues::list(&fixture.ctx, &fixture.user, &request).await.unwrap();
    assert_eq!((second.items[0].name.as_str(), second.next_cursor), ("zeta", None));
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_keeps_the_rest() {
    let fixture = Fixture::new().await;
    let operator = caller(Role::Operator);
    update(&fixture, &operator, json!({"limits": {"max_depth": 5}, "retention": {"dead_s": 60}})).await.unwrap();
    let queue = update(&fixture, &operator, json!({"remote": true})).await.unwrap();
    assert_eq!((queue.remote, queue.limits.max_depth, queue.retention.dead_s), (true, Some(5), 60));
    assert_eq!(queue.retention.succeeded_s, 7 * 86_400);
    let lifted = update(&fixture, &operator, json!({"limits": {}})).await.unwrap();
    assert_eq!(lifted.limits.max_depth, None);
}

#[rstest]
#[case::negative(json!({"limits": {"max_depth": -1}}), "/limits/max_depth")]
#[case::rate(json!({"limits": {"rate": {"limit": 0, "per_ms": 1}}}), "/limits/rate/limit")]
#[case::crossed(json!({"default_retry": {"base_ms": 10, "max_ms": 5}}), "/default_retry/base_ms")]
#[tokio::test]
async fn a_bad_patch_is_refused(#[case] patch: Value, #[case] pointer: &str) {
    let fixture = Fixture::new().await;
    let error = update(&fixture, &caller(Role::Operator), patch).await.unwrap_err();
    assert_eq!((error.code, error.fields[0].pointer.as_str()), (Code::ValidationFailed, pointer));
}

#[tokio::test]
async fn changing_a_queue_takes_an_operator() {
    let fixture = Fixture::new().await;
    let error = update(&fixture, &fixture.user, json!({"remote": true})).await.unwrap_err();
    assert_eq!(error.code, Code::InsufficientScope);
    let paused = queues::pause(&fixture.ctx, &fixture.user, &name("default"), &crate::accounts::Origin::default()).await.unwrap_err();
    assert_eq!(paused.code, Code::InsufficientScope);
}

#[tokio::test]
async fn pause_and_resume_are_seen() {
    let fixture = Fixture::new().await;
    let operator = caller(Role::Operator);
    assert!(queues::pause(&fixture.ctx, &operator, &name("default"), &crate::accounts::Origin::default()).await.unwrap().paused);
    assert!(queues::get(&fixture.ctx, &operator, &name("default")).await.unwrap().paused);
    assert!(!queues::resume(&fixture.ctx, &operator, &name("default"), &crate::accounts::Origin::default()).await.unwrap().paused);
}

#[tokio::test]
async fn there_are_only_so_many_queues() {
    let fixture = Fixture::with(&[("QUEUES_MAX", "2")]).await;
    fixture.echo(json!({"queue": "second"})).await;
    let error = fixture.submit(json!({"kind": "debug.echo", "queue": "third"})).await.unwrap_err();
    assert_eq!((error.code, error.fields[0].code.as_str()), (Code::ValidationFailed, "too_many_queues"));
}
