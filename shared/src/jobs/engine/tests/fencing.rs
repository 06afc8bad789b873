//! A worker that stood still for longer than its lease, and goes on: whatever it had reached, it can neither conclude the
//! delivery that was given up nor touch the one that another worker has meanwhile.

use super::*;
use crate::jobs::engine::settle::{self, Settled, Verdict};

/// The lease expires, the loss is written, and another worker runs the job.
async fn taken_over(fixture: &Fixture) -> (Holder, Token, Standing) {
    fixture.expire_leases().await;
    fixture.sweep().await;
    let id: Vec<String> =
        redis::cmd("ZRANGE").arg(fixture.keys.delayed()).arg(0).arg(-1).query_async(&mut fixture.connection.clone()).await.unwrap();
    // Its retry is due now.
    redis::cmd("ZADD").arg(fixture.keys.delayed()).arg(1).arg(&id[0]).exec_async(&mut fixture.connection.clone()).await.unwrap();
    fixture.sweep().await;
    let other = worker();
    let (token, standing) = fixture.start_one(&other).await;
    (other, token, standing)
}

async fn write(fixture: &Fixture, conclusion: Conclusion) -> Settled {
    settle::write(&fixture.ctx, &[conclusion]).await.unwrap().remove(0)
}

/// The other worker's delivery is as it was, and the one that succeeds.
async fn only_the_other_counts(fixture: &Fixture, other: &Holder, token: Token, standing: Standing) {
    let lost = scripts::heartbeat(&mut fixture.connection.clone(), &fixture.keys, other.lease, &[token]).await.unwrap().0;
    assert!(lost.is_empty(), "the new lease is whole");
    let stepped = fixture.step(other, Step { mark: vec![token], ..Step::default() }).await;
    assert!(stepped.refused.is_empty());
    let settled = write(fixture, fixture.conclusion(token, standing, done())).await;
    assert_eq!(settled.verdict, Verdict::Written);
    fixture.finish(other, settled.finish).await;
    let row = fixture.row_of(token.job_id).await.unwrap();
    assert_eq!((row.state.as_str(), row.standing.attempt, row.nonce), ("succeeded", 2, Some(other.nonce)));
    assert_eq!(fixture.copy(token.job_id).await, None);
    assert_eq!(fixture.attempts(token.job_id).await.len(), 1, "the delivery that was given up is recorded once");
}

#[tokio::test]
async fn stopped_before_the_mark_it_is_refused_there() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let stopped = worker();
    let (stale, _) = fixture.start_one(&stopped).await;
    let (other, token, standing) = taken_over(&fixture).await;
    let stepped = fixture.step(&stopped, Step { mark: vec![stale], started: vec![stale], ..Step::default() }).await;
    assert_eq!(stepped.refused, [job.id]);
    let lost = scripts::heartbeat(&mut fixture.connection.clone(), &fixture.keys, stopped.lease, &[stale]).await.unwrap().0;
    assert_eq!(lost, [job.id]);
    only_the_other_counts(&fixture, &other, token, standing).await;
    assert_eq!(fixture.attempts(job.id).await, ["lost"]);
}

#[tokio::test]
async fn stopped_between_mark_and_write_it_is_refused_by_the_row() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let stopped = worker();
    let (stale, stale_standing) = fixture.start_one(&stopped).await;
    fixture.step(&stopped, Step { mark: vec![stale], ..Step::default() }).await;
    let (other, token, standing) = taken_over(&fixture).await;
    let settled = write(&fixture, fixture.conclusion(stale, stale_standing, done())).await;
    assert_eq!(settled.verdict, Verdict::Refused);
    fixture.finish(&stopped, settled.finish).await;
    only_the_other_counts(&fixture, &other, token, standing).await;
    assert_eq!(fixture.attempts(job.id).await, ["lost"]);
}

#[tokio::test]
async fn stopped_between_write_and_finish_its_outcome_stands_and_its_finish_is_refused() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let stopped = worker();
    let (stale, stale_standing) = fixture.start_one(&stopped).await;
    fixture.step(&stopped, Step { mark: vec![stale], ..Step::default() }).await;
    let settled = write(&fixture, fixture.conclusion(stale, stale_standing, Outcome::retry("boom", "it broke"))).await;
    assert_eq!(settled.verdict, Verdict::Written);
    let (other, token, standing) = taken_over(&fixture).await;
    fixture.finish(&stopped, settled.finish).await;
    only_the_other_counts(&fixture, &other, token, standing).await;
    assert_eq!(fixture.attempts(job.id).await, ["failed"]);
}

/// Nobody has looked at the expired lease yet: the first to write wins, and the other one hears how the row stands.
#[tokio::test]
async fn a_lease_that_expires_while_settling_is_concluded_once() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let holder = worker();
    let (token, standing) = fixture.start_one(&holder).await;
    fixture.step(&holder, Step { mark: vec![token], ..Step::default() }).await;
    fixture.expire_leases().await;
    let settled = write(&fixture, fixture.conclusion(token, standing, done())).await;
    assert_eq!(settled.verdict, Verdict::Written);
    fixture.sweep().await;
    assert_eq!(fixture.copy(job.id).await, None, "the sweep takes the row's word");
    fixture.finish(&holder, settled.finish).await;
    assert_eq!((fixture.copy(job.id).await, fixture.attempts(job.id).await.len()), (None, 0));
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "succeeded");
}

/// The sweep has seen the lease expired, and the holder is heard of before the sweep acts on it.
#[tokio::test]
async fn an_unstarted_lease_that_is_extended_after_it_was_seen_expired_stays() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let holder = worker();
    let (token, standing) = fixture.lease_one(&holder).await;
    fixture.expire_leases().await;
    scripts::heartbeat(&mut fixture.connection.clone(), &fixture.keys, holder.lease, &[token]).await.unwrap();
    fixture.finish(&holder, Finish { token, action: Action::Return, standing }).await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("l4:1:0:0:0:0"));
    // The same when it has said that it started.
    fixture.step(&holder, Step { started: vec![token], ..Step::default() }).await;
    fixture.expire_leases().await;
    fixture.finish(&holder, Finish { token, action: Action::Return, standing }).await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("l4:1:0:0:0:0"));
}
