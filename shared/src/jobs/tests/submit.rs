//! What a submit accepts, fills in and refuses.

use super::*;
use crate::{Code, Scope, caller::Scopes, jobs::JobState};
use rstest::rstest;

#[tokio::test]
async fn a_submit_fills_its_defaults_in_and_is_durable() {
    let fixture = Fixture::new().await;
    let job = fixture.submit(json!({"kind": "debug.echo"})).await.unwrap();
    assert_eq!((job.state, job.priority, job.attempt, job.max_attempts), (JobState::Queued, 4, 0, 4));
    assert_eq!((job.queue.as_str(), job.payload.get(), job.owner_id), ("default", "{}", fixture.user.user_id));
    let stored = crate::jobs::read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap();
    assert_eq!(serde_json::to_value(&stored).unwrap(), serde_json::to_value(&job).unwrap());
}

#[tokio::test]
async fn a_payload_comes_back_byte_for_byte() {
    let fixture = Fixture::new().await;
    let payload = r#"{"b" : 1.0,"a":[1e2, 12345678901234567890123 ],"a":"\u00e9\/"}"#;
    let body = format!(r#"{{"kind":"debug.echo","payload":{payload}}}"#);
    let submit = serde_json::from_str(&body).unwrap();
    let job = submitting::prepare(&fixture.ctx, &fixture.user, submit, Origin::default()).await.unwrap();
    let job = submitting::submit(&fixture.ctx, job).await.unwrap();
    let stored = crate::jobs::read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap();
    assert_eq!(stored.payload.get(), payload);
}

#[tokio::test]
async fn a_delayed_job_is_scheduled() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({"delay_ms": 60_000})).await;
    assert_eq!(job.state, JobState::Scheduled);
    assert_eq!((job.run_at - job.created_at).whole_seconds(), 60);
}

#[tokio::test]
async fn tags_survive_the_way_in_and_out() {
    let fixture = Fixture::new().await;
    for tags in [json!([]), json!(["a,b", "{\"x\"}", "NULL", "ü"])] {
        let job = fixture.echo(json!({"tags": tags})).await;
        let stored = crate::jobs::read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap();
        assert_eq!(json!(stored.tags), tags);
    }
}

#[tokio::test]
async fn the_queue_and_then_the_submit_decide_on_retries() {
    let fixture = Fixture::new().await;
    let patch = serde_json::from_value(json!({"default_retry": {"max_attempts": 9, "base_ms": 5_000}})).unwrap();
    crate::jobs::queues::update(
        &fixture.ctx,
        &caller(Role::Operator),
        &"slow".parse().unwrap(),
        &patch,
        &crate::accounts::Origin::default(),
        |_| Ok(()),
    )
    .await
    .unwrap();
    let by_queue = prepare(&fixture.ctx, &fixture.user, json!({"kind": "debug.echo", "queue": "slow"})).await.unwrap();
    assert_eq!((by_queue.retry.max_attempts, by_queue.retry.base_ms, by_queue.retry.max_ms), (9, 5_000, 600_000));
    let body = json!({"kind": "debug.echo", "queue": "slow", "retry": {"max_attempts": 1, "max_ms": 100}});
    let own = prepare(&fixture.ctx, &fixture.user, body).await.unwrap();
    assert_eq!((own.retry.max_attempts, own.retry.base_ms, own.retry.max_ms), (1, 100, 100));
}

#[rstest]
#[case::unknown_kind(json!({"kind": "nobody.knows"}), Code::UnknownKind, "/kind")]
#[case::kind_is_no_name(json!({"kind": "no spaces"}), Code::ValidationFailed, "/kind")]
#[case::queue_is_no_name(json!({"kind": "debug.echo", "queue": "a}b"}), Code::ValidationFailed, "/queue")]
#[case::priority_out_of_range(json!({"kind": "debug.echo", "priority": 10}), Code::ValidationFailed, "/priority")]
#[case::negative_delay(json!({"kind": "debug.echo", "delay_ms": -1}), Code::ValidationFailed, "/delay_ms")]
#[case::delay_and_time(json!({"kind": "debug.echo", "delay_ms": 1, "run_at": "2030-01-01T00:00:00Z"}), Code::ValidationFailed, "/delay_ms")]
#[case::far_future(json!({"kind": "debug.echo", "run_at": "9999-01-01T00:00:00Z"}), Code::ValidationFailed, "/run_at")]
#[case::expired_already(json!({"kind": "debug.echo", "expires_at": "2020-01-01T00:00:00Z"}), Code::ValidationFailed, "/expires_at")]
#[case::long_timeout(json!({"kind": "debug.echo", "timeout_ms": 700_000_000}), Code::ValidationFailed, "/timeout_ms")]
#[case::retry_crossed(json!({"kind": "debug.echo", "retry": {"base_ms": 10, "max_ms": 5}}), Code::ValidationFailed, "/retry/base_ms")]
#[case::retry_never(json!({"kind": "debug.echo", "retry": {"max_attempts": 0}}), Code::ValidationFailed, "/retry/max_attempts")]
#[case::empty_tag(json!({"kind": "debug.echo", "tags": [""]}), Code::ValidationFailed, "/tags")]
#[case::control_in_tag(json!({"kind": "debug.echo", "tags": ["a\u{1f}b"]}), Code::ValidationFailed, "/tags")]
#[case::too_many_tags(json!({"kind": "debug.echo", "tags": vec!["t"; 21]}), Code::ValidationFailed, "/tags")]
#[case::concurrency_key(json!({"kind": "debug.echo", "concurrency_key": ""}), Code::ValidationFailed, "/concurrency_key")]
#[case::target(json!({"kind": "debug.echo", "target": {"type": "http"}}), Code::ValidationFailed, "/kind")]
#[case::no_target(json!({"kind": "http.request"}), Code::ValidationFailed, "/target")]
#[case::target_is_private(json!({"kind": "http.request", "target": {"type": "http", "url": "http://127.0.0.1/"}}), Code::ValidationFailed, "/target/url")]
#[case::target_is_none(json!({"kind": "http.request", "target": {"type": "http"}}), Code::ValidationFailed, "/target")]
#[case::target_is_of_nobody(json!({"kind": "http.request", "target": {"type": "http", "endpoint_id": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da"}}), Code::ValidationFailed, "/target/endpoint_id")]
#[case::header_of_ours(json!({"kind": "http.request", "target": {"type": "http", "url": "https://example.org/", "headers": {"Host": "x"}}}), Code::ValidationFailed, "/target/headers/Host")]
#[case::batch(json!({"kind": "debug.echo", "batch_id": "01a1f640-bc00-7000-8000-000000000001"}), Code::ValidationFailed, "/batch_id")]
#[case::parents(json!({"kind": "debug.echo", "depends_on": ["01a1f640-bc00-7000-8000-000000000001"]}), Code::ValidationFailed, "/depends_on/0")]
#[case::large(json!({"kind": "debug.echo", "payload": "x".repeat(300_000)}), Code::PayloadTooLarge, "/payload")]
#[case::nul(json!({"kind": "debug.echo", "payload": "\0"}), Code::InvalidText, "/payload")]
#[tokio::test]
async fn refuses(#[case] body: Value, #[case] code: Code, #[case] pointer: &str) {
    let fixture = Fixture::new().await;
    let error = fixture.submit(body).await.unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert_eq!(error.fields[0].pointer, pointer);
    assert_eq!(fixture.count("jobs").await, 0);
}

#[rstest]
#[case::unknown_kind(json!({"kind": "nobody.knows"}))]
#[case::forbidden_kind(json!({"kind": "mail.send"}))]
#[case::target(json!({"kind": "http.request", "target": {"type": "http", "url": "http://127.0.0.1/"}}))]
#[case::parents(json!({"kind": "debug.echo", "depends_on": ["01a1f640-bc00-7000-8000-000000000001"]}))]
#[tokio::test]
async fn a_refused_job_makes_no_queue(#[case] mut body: Value) {
    let fixture = Fixture::new().await;
    let n_before = fixture.count("queues").await;
    body["queue"] = "new".into();
    fixture.submit(body).await.unwrap_err();
    assert_eq!(fixture.count("queues").await, n_before);
    fixture.echo(json!({"queue": "new"})).await;
    assert_eq!(fixture.count("queues").await, n_before + 1);
}

#[tokio::test]
async fn submitting_takes_the_scope() {
    let fixture = Fixture::new().await;
    let reader = Caller { scopes: Scopes::default().with(Scope::JobsRead), ..fixture.user };
    let error = fixture.submit_as(&reader, json!({"kind": "debug.echo"})).await.unwrap_err();
    assert_eq!(error.code, Code::InsufficientScope);
}

#[tokio::test]
async fn debug_kinds_are_for_operators_outside_development() {
    let secret = "0123456789abcdef0123456789abcdef";
    let fixture = Fixture::with(&[("APP_PROFILE", "production"), ("JWT_SECRET", secret)]).await;
    let refused = fixture.submit(json!({"kind": "debug.echo"})).await.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    let operator = caller(Role::Operator);
    fixture.submit_as(&operator, json!({"kind": "debug.echo"})).await.unwrap();
    let refused = fixture.submit_as(&operator, json!({"kind": "debug.crash"})).await.unwrap_err();
    assert_eq!(refused.code, Code::UnknownKind);
    assert!(!refused.fields[0].detail.contains("debug.crash,"));
}

#[tokio::test]
async fn the_platforms_heartbeat_is_for_operators_even_in_development() {
    let fixture = Fixture::new().await;
    let refused = fixture.submit(json!({"kind": "system.heartbeat"})).await.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    let job = fixture.submit_as(&caller(Role::Operator), json!({"kind": "system.heartbeat"})).await.unwrap();
    assert_eq!(job.max_attempts, 1);
}

#[tokio::test]
async fn a_remote_queue_takes_kinds_that_we_do_not_run() {
    let fixture = Fixture::new().await;
    let patch = serde_json::from_value(json!({"remote": true})).unwrap();
    crate::jobs::queues::update(
        &fixture.ctx,
        &caller(Role::Operator),
        &"far".parse().unwrap(),
        &patch,
        &crate::accounts::Origin::default(),
        |_| Ok(()),
    )
    .await
    .unwrap();
    let job = fixture.submit(json!({"kind": "python.resize", "queue": "far"})).await.unwrap();
    assert_eq!(job.kind.as_str(), "python.resize");
}

#[tokio::test]
async fn a_submit_succeeds_while_redis_is_away() {
    let fixture = Fixture::with(&[("REDIS_URL", "redis://127.0.0.1:9/")]).await;
    for _ in 0..3 {
        let job = fixture.echo(json!({})).await;
        let stored = crate::jobs::read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap();
        assert_eq!(stored.state, JobState::Queued);
    }
    assert_eq!(fixture.count("jobs").await, 3);
}

#[tokio::test]
async fn a_submit_in_a_transaction_stands_and_falls_with_it() {
    let fixture = Fixture::new().await;
    let job = prepare(&fixture.ctx, &fixture.user, json!({"kind": "debug.echo"})).await.unwrap();
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    submitting::submit_in(&fixture.ctx, &mut tx, job.clone()).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(fixture.count("jobs").await, 0);
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    submitting::submit_in(&fixture.ctx, &mut tx, job.clone()).await.unwrap();
    tx.commit().await.unwrap();
    submitting::announce(&fixture.ctx, &[&job]).await;
    assert_eq!(fixture.count("jobs").await, 1);
}
