//! Rules 1 and 5: what becomes of leases that nobody extended.

use super::*;
use crate::jobs::engine::outcome::RETURNS_MAX;

#[tokio::test]
async fn an_unstarted_delivery_goes_back_unspent() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    fixture.lease_one(&worker()).await;
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("r4:1:0:0:1:0"), "delivered once, and no failure");
    assert_eq!(fixture.row_of(job.id).await.unwrap().standing.failures, 0);
    assert_eq!(fixture.lease_one(&worker()).await.0.attempt, 2);
}

#[tokio::test]
async fn a_started_delivery_is_a_failed_attempt() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    fixture.start_one(&worker()).await;
    fixture.expire_leases().await;
    fixture.sweep().await;
    let row = fixture.row_of(job.id).await.unwrap();
    assert_eq!((row.state.as_str(), row.standing.attempt, row.standing.failures), ("pending", 1, 1));
    assert_eq!(fixture.attempts(job.id).await, ["lost"]);
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("d4:1:1:0:0:0"));
}

/// Rule 5: until the loss is written, nobody may run the job again.
#[tokio::test]
async fn a_lost_attempt_is_concluded_before_the_job_may_run_again() {
    let fixture = Fixture::with(&[("DB_LOCK_TIMEOUT_MS", "50")]).await;
    let job = fixture.job().await;
    fixture.start_one(&worker()).await;
    fixture.expire_leases().await;
    let mut blocker = fixture.ctx.pg.begin().await.unwrap();
    sqlx::query("LOCK TABLE job_attempts IN ACCESS EXCLUSIVE MODE").execute(&mut *blocker).await.unwrap();
    let swept = crate::jobs::engine::expire::sweep(&fixture.ctx, &mut fixture.connection.clone(), &fixture.keys).await;
    assert!(swept.is_err());
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("l4:1:0:0:0:0"), "an expired lease is returned, not requeued");
    assert_eq!(fixture.lease(&worker(), 1).await.len(), 0);
    blocker.rollback().await.unwrap();
    fixture.sweep().await;
    assert_eq!(fixture.attempts(job.id).await, ["lost"]);
}

#[tokio::test]
async fn the_last_loss_is_death() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    sqlx::query("UPDATE jobs SET failures = 2 WHERE id = $1").bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
    fixture.start_one(&worker()).await;
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "dead");
    assert_eq!(fixture.copy(job.id).await, None);
}

/// Rule 5: the row already tells how the delivery ended; only Redis had not heard.
#[tokio::test]
async fn a_delivery_that_was_concluded_is_not_concluded_again() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (token, standing) = fixture.start_one(&worker()).await;
    let conclusion = fixture.conclusion(token, standing, Outcome::retry("boom", "it broke"));
    crate::jobs::engine::settle::write(&fixture.ctx, &[conclusion]).await.unwrap();
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.attempts(job.id).await, ["failed"]);
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("d4:1:1:0:0:0"), "Redis takes the row's state");
}

#[tokio::test]
async fn a_lease_without_a_row_is_removed() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    fixture.lease_one(&worker()).await;
    sqlx::query("DELETE FROM jobs WHERE id = $1").bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.copy(job.id).await, None);
}

/// Rule 1: deliveries are bounded even when none is known to have started.
#[tokio::test]
async fn a_job_that_never_gets_to_start_dies_in_the_end() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    for _ in 0..=RETURNS_MAX {
        fixture.lease_one(&worker()).await;
        fixture.expire_leases().await;
        fixture.sweep().await;
    }
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "dead");
    assert_eq!(fixture.copy(job.id).await, None);
}

/// Rule 4: a slow commit must not cost the lease.
#[tokio::test]
async fn heartbeats_extend_settling_leases() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let holder = worker();
    let (token, _) = fixture.start_one(&holder).await;
    fixture.step(&holder, Step { mark: vec![token], ..Step::default() }).await;
    fixture.expire_leases().await;
    let lost = scripts::heartbeat(&mut fixture.connection.clone(), &fixture.keys, holder.lease, &[token]).await.unwrap().0;
    assert!(lost.is_empty());
    fixture.sweep().await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("l4:1:0:0:0:0"), "the lease lives on");
}

#[tokio::test]
async fn an_unstarted_delivery_whose_cancel_was_asked_for_is_cancelled() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    fixture.lease_one(&worker()).await;
    sqlx::query("UPDATE jobs SET cancel_requested_at = now() WHERE id = $1").bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "cancelled");
}
