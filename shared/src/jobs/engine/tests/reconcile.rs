//! Rules 6 and 7: Redis is made to say what PostgreSQL says, whatever happened to it.

use super::*;
use crate::jobs::engine::reconcile::{rebuild, repair_copies, repair_rows};
use uuid::Uuid;

async fn repair(fixture: &Fixture) {
    assert_eq!(repair_rows(&fixture.ctx, Uuid::nil(), Uuid::max()).await.unwrap(), None);
    assert_eq!(repair_copies(&fixture.ctx, &fixture.queue, 0).await.unwrap(), 0);
}

#[tokio::test]
async fn a_row_that_redis_lacks_is_enqueued_and_must_be_verified() {
    let fixture = Fixture::new().await;
    let job = fixture.row().await;
    repair(&fixture).await;
    let leased = fixture.lease(&worker(), 1).await;
    assert_eq!(leased[0].id, job.id);
    assert!(String::from_utf8_lossy(&leased[0].envelope).contains(r#""v":true"#));
}

#[tokio::test]
async fn a_copy_older_than_its_row_is_replaced() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    sqlx::query("UPDATE jobs SET attempt = 2, failures = 2 WHERE id = $1").bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
    repair(&fixture).await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("r4:2:2:0:0:0"));
}

#[tokio::test]
async fn a_copy_whose_row_is_over_or_gone_is_removed() {
    let fixture = Fixture::new().await;
    let (ended, deleted, live) = (fixture.job().await, fixture.job().await, fixture.job().await);
    let token = Token { job_id: ended.id, attempt: 1, nonce: Nonce::new() };
    crate::jobs::engine::settle::write(&fixture.ctx, &[fixture.conclusion(token, ended.standing, done())]).await.unwrap();
    sqlx::query("DELETE FROM jobs WHERE id = $1").bind(deleted.id.0).execute(&fixture.ctx.pg).await.unwrap();
    repair(&fixture).await;
    assert_eq!((fixture.copy(ended.id).await, fixture.copy(deleted.id).await), (None, None));
    assert!(fixture.copy(live.id).await.is_some());
}

#[tokio::test]
async fn a_lease_is_left_alone() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    fixture.lease_one(&worker()).await;
    repair(&fixture).await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("l4:1:0:0:0:0"));
}

#[tokio::test]
async fn a_cancel_that_nobody_heard_is_carried_out() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    sqlx::query("UPDATE jobs SET cancel_requested_at = now() WHERE id = $1").bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
    repair(&fixture).await;
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "cancelled");
}

#[tokio::test]
async fn a_job_that_expires_unseen_is_expired() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    sqlx::query("UPDATE jobs SET expires_at = now() WHERE id = $1").bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
    repair(&fixture).await;
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "expired");
    assert_eq!(fixture.copy(job.id).await, None);
}

#[tokio::test]
async fn an_emptied_redis_is_filled_again_with_what_is_due_first() {
    let fixture = Fixture::new().await;
    let later = fixture.row_at(fixture.ctx.clock.now() + Duration::from_secs(60), 4).await;
    let due = fixture.job().await;
    fixture.enqueue(&later).await;
    fixture.empty_redis().await;
    assert_eq!(fixture.lease(&worker(), 10).await.len(), 0);
    fixture.restore().await;
    assert_eq!(rebuild(&fixture.ctx, &fixture.queue).await.unwrap(), 2);
    assert_eq!(fixture.lease_one(&worker()).await.0.job_id, due.id);
    assert_eq!(fixture.copy(later.id).await.as_deref(), Some("d4:0:0:0:0:0"));
}
