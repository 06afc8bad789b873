//! Rules 6 and 7: Redis is made to say what PostgreSQL says, whatever happened to it.

use super::*;
use crate::jobs::engine::{
    load::{Draft, load},
    reconcile::{rebuild, repair_copies, repair_pauses, repair_rows},
    upkeep::{candidate, queues, try_lead},
};
use tokio_util::sync::CancellationToken;
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

/// As when Redis was away when a queue was resumed, or another took over and was told what held before.
#[tokio::test]
async fn a_pause_or_resume_that_redis_has_not_heard_of_is_told_to_it() {
    let fixture = Fixture::new().await;
    fixture.job().await;
    for (is_paused, n_leased) in [(true, 0), (false, 1)] {
        for name in [fixture.queue.as_str(), "not-restored-yet"] {
            let query = "INSERT INTO queues (name, paused) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET paused = $2";
            sqlx::query(query).bind(name).bind(is_paused).execute(&fixture.ctx.pg).await.unwrap();
        }
        repair_pauses(&fixture.ctx, &queues(&fixture.ctx).await.unwrap()).await.unwrap();
        assert_eq!(fixture.lease(&worker(), 1).await.len(), n_leased);
    }
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

/// Rule 6: what this Redis still had is placed anew, and not beside itself.
#[tokio::test]
async fn a_rebuild_lists_every_job_once() {
    let fixture = Fixture::new().await;
    for _ in 0..3 {
        fixture.job().await;
    }
    rebuild(&fixture.ctx, &fixture.queue).await.unwrap();
    let listed: u64 = redis::cmd("LLEN").arg(&fixture.keys.ready()[4]).query_async(&mut fixture.ctx.redis.connection()).await.unwrap();
    assert_eq!(listed, 3);
}

/// Rule 6: a rebuild that its leader did not live to finish is seen by the next one, although this Redis is known by then.
#[tokio::test]
async fn an_unfinished_rebuild_is_noticed_until_one_is_finished() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    fixture.restore().await;
    crate::jobs::engine::scripts::forget_places(&mut fixture.ctx.redis.connection(), &fixture.keys).await.unwrap();
    repair(&fixture).await;
    let swept = fixture.sweep().await;
    assert!(swept.is_known && swept.is_rebuilding);
    assert_eq!(fixture.lease(&worker(), 1).await.len(), 0, "the copy is there, and waits nowhere");
    rebuild(&fixture.ctx, &fixture.queue).await.unwrap();
    assert!(!fixture.sweep().await.is_rebuilding);
    assert_eq!(fixture.lease_one(&worker()).await.0.job_id, job.id);
}

/// Rule 1: a number that was concluded is not given again, whatever Redis forgets.
#[tokio::test]
async fn the_attempts_number_goes_on_in_an_emptied_redis() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (token, standing) = fixture.start_one(&worker()).await;
    let failed = fixture.conclusion(token, standing, Outcome::retry("boom", "it broke"));
    crate::jobs::engine::settle::write(&fixture.ctx, &[failed]).await.unwrap();
    sqlx::query("UPDATE jobs SET run_at = now() WHERE id = $1").bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
    fixture.empty_redis().await;
    fixture.restore().await;
    rebuild(&fixture.ctx, &fixture.queue).await.unwrap();
    assert_eq!(fixture.lease_one(&worker()).await.0.attempt, 2);
}

/// Rule 6: a rebuilt copy is not run on Redis' word alone.
#[tokio::test]
async fn a_worker_runs_no_rebuilt_copy_whose_row_is_over() {
    let fixture = Fixture::new().await;
    let (over, live) = (fixture.row().await, fixture.row().await);
    rebuild(&fixture.ctx, &fixture.queue).await.unwrap();
    let holder = worker();
    let leased = fixture.lease(&holder, 2).await;
    let token = Token { job_id: over.id, attempt: 1, nonce: Nonce::new() };
    crate::jobs::engine::settle::write(&fixture.ctx, &[fixture.conclusion(token, over.standing, done())]).await.unwrap();
    let keys = std::sync::Arc::new(fixture.keys.clone());
    let drafts: Vec<Draft> = leased.iter().map(|leased| Draft::new(std::sync::Arc::clone(&keys), leased, holder.nonce).unwrap()).collect();
    assert!(drafts.iter().all(|draft| !draft.is_complete()), "each must be looked up");
    let loaded = load(&fixture.ctx, drafts, &CancellationToken::new()).await.unwrap();
    assert_eq!(loaded.complete.iter().map(|draft| draft.token.job_id).collect::<Vec<_>>(), [live.id]);
    assert_eq!((loaded.stale[0].token.job_id, &loaded.stale[0].action), (over.id, &Action::End { state: "succeeded" }));
}

/// Rule 7: one leads, past any pooler. One that is stopped says nothing, and keeps nobody from leading.
#[tokio::test]
async fn one_process_leads_and_another_follows_when_nothing_is_heard_of_it() {
    let fixture = Fixture::new().await;
    let (mut first, mut second) = (candidate(&fixture.ctx).await.unwrap(), candidate(&fixture.ctx).await.unwrap());
    assert!(try_lead(&mut first).await.unwrap());
    assert!(!try_lead(&mut second).await.unwrap());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !try_lead(&mut second).await.unwrap() {
        assert!(tokio::time::Instant::now() < deadline, "the lock goes with its silent holder");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(try_lead(&mut first).await.is_err(), "which learns of it by its next word");
}
