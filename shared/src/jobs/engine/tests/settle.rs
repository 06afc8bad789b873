//! Rules 3 and 4: the one guarded statement, its replays, and outcomes that the database refuses or cannot take yet.

use super::*;
use crate::jobs::engine::settle::{Settled, Settler, Verdict, write_patiently};
use tokio_util::sync::CancellationToken;

/// Writes one conclusion.
async fn write(fixture: &Fixture, conclusion: Conclusion) -> Settled {
    crate::jobs::engine::settle::write(&fixture.ctx, &[conclusion]).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_success_moves_the_row_with_its_result() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (token, standing) = fixture.start_one(&worker()).await;
    let settled = write(&fixture, fixture.conclusion(token, standing, done())).await;
    assert_eq!((settled.verdict, settled.finish.action), (Verdict::Written, Action::End { state: "succeeded" }));
    let (result, attempt): (String, i32) = sqlx::query_as("SELECT result::text, attempt FROM jobs_ended WHERE id = $1")
        .bind(job.id.0)
        .fetch_one(&fixture.ctx.pg)
        .await
        .unwrap();
    assert_eq!((result.as_str(), attempt), ("1", 1));
    assert!(fixture.attempts(job.id).await.is_empty(), "a success is told by the row itself");
}

/// Rule 3: the answer to a commit may get lost; saying it again is a success, and changes nothing.
#[tokio::test]
async fn a_replayed_conclusion_is_our_own_success() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (token, standing) = fixture.start_one(&worker()).await;
    for verdict in [Verdict::Written, Verdict::WrittenBefore] {
        let settled = write(&fixture, fixture.conclusion(token, standing, Outcome::retry("boom", "it broke"))).await;
        assert_eq!(settled.verdict, verdict);
        assert!(matches!(settled.finish.action, Action::Requeue { .. }));
        assert_eq!(settled.finish.standing.failures, 1);
    }
    assert_eq!(fixture.attempts(job.id).await, ["failed"]);
    let (token, standing) = (Token { attempt: 2, ..token }, Standing { attempt: 2, failures: 1, ..standing });
    for verdict in [Verdict::Written, Verdict::WrittenBefore] {
        let settled = write(&fixture, fixture.conclusion(token, standing, done())).await;
        assert_eq!((settled.verdict, settled.finish.action), (verdict, Action::End { state: "succeeded" }));
    }
}

/// Rule 3: of two processes that hold the same attempt, the first to write wins; the second one's result is refused.
#[tokio::test]
async fn a_result_is_recorded_once() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (token, standing) = fixture.start_one(&worker()).await;
    let other = Token { nonce: Nonce::new(), ..token };
    let two = Outcome::Done(RawValue::from_string("2".to_owned()).unwrap());
    write(&fixture, fixture.conclusion(token, standing, done())).await;
    let settled = write(&fixture, fixture.conclusion(other, standing, two)).await;
    assert_eq!(settled.verdict, Verdict::Refused);
    assert_eq!(settled.finish.action, Action::End { state: "succeeded" }, "Redis hears how the row stands");
    let result: String =
        sqlx::query_scalar("SELECT result::text FROM jobs_ended WHERE id = $1").bind(job.id.0).fetch_one(&fixture.ctx.pg).await.unwrap();
    assert_eq!(result, "1");
}

/// Rule 3: an attempt at or below the row's has been concluded, whatever its nonce.
#[tokio::test]
async fn an_older_attempt_is_refused() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (old, standing) = fixture.start_one(&worker()).await;
    let newer = Token { attempt: 5, nonce: Nonce::new(), ..old };
    write(&fixture, fixture.conclusion(newer, standing, Outcome::retry("boom", "it broke"))).await;
    let Settled { verdict, finish } = write(&fixture, fixture.conclusion(old, standing, done())).await;
    assert_eq!(verdict, Verdict::Refused);
    assert!(matches!(finish.action, Action::Requeue { .. }));
    assert_eq!((finish.token, finish.standing.attempt), (old, 5));
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "pending");
}

#[tokio::test]
async fn a_retry_whose_cancel_was_asked_for_becomes_cancelled() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (token, standing) = fixture.start_one(&worker()).await;
    sqlx::query("UPDATE jobs SET cancel_requested_at = now() WHERE id = $1").bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
    let settled = write(&fixture, fixture.conclusion(token, standing, Outcome::retry("boom", "it broke"))).await;
    assert_eq!(settled.finish.action, Action::End { state: "cancelled" });
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "cancelled");
    assert_eq!(fixture.attempts(job.id).await, ["failed"]);
}

/// Rule 4: one outcome that the database refuses must not take its batch down with it.
#[tokio::test]
async fn a_batch_with_a_bad_result_loses_only_that_one() {
    let fixture = Fixture::new().await;
    let mut conclusions = Vec::new();
    for n in 0..5 {
        fixture.job().await;
        let (token, standing) = fixture.start_one(&worker()).await;
        let mut conclusion = fixture.conclusion(token, standing, done());
        if n == 2 {
            // Nested beyond what PostgreSQL's parser can stack.
            let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
            conclusion.result = Some(serde_json::value::to_raw_value(&1).unwrap());
            conclusion.error = Some(crate::jobs::JobError { code: "nul\0".to_owned(), message: deep });
        }
        conclusions.push(conclusion);
    }
    let bad = conclusions[2].delivery.token.job_id;
    let finishes = write_patiently(&fixture.ctx, &mut Settler::default(), conclusions, &CancellationToken::new()).await;
    let dead: Vec<JobId> =
        finishes.iter().filter(|finish| finish.action == Action::End { state: "dead" }).map(|finish| finish.token.job_id).collect();
    assert_eq!((finishes.len(), dead), (5, vec![bad]));
    let code: String =
        sqlx::query_scalar("SELECT error_code FROM jobs_ended WHERE id = $1").bind(bad.0).fetch_one(&fixture.ctx.pg).await.unwrap();
    assert_eq!(code, "result_rejected");
}

/// Rule 4: outcomes wait for PostgreSQL, they are not lost to it.
#[tokio::test]
async fn outcomes_are_written_again_until_the_database_takes_them() {
    let fixture = Fixture::with(&[("DB_LOCK_TIMEOUT_MS", "50")]).await;
    let job = fixture.job().await;
    let (token, standing) = fixture.start_one(&worker()).await;
    let mut blocker = fixture.ctx.pg.begin().await.unwrap();
    sqlx::query("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE").execute(&mut *blocker).await.unwrap();
    let conclusion = fixture.conclusion(token, standing, done());
    let ctx = fixture.ctx.clone();
    let writing =
        tokio::spawn(async move { write_patiently(&ctx, &mut Settler::default(), vec![conclusion], &CancellationToken::new()).await });
    // Two statements that waited at different times: the first one has failed.
    let mut tries = std::collections::HashSet::new();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while tries.len() < 2 {
        let waiting =
            sqlx::query_scalar("SELECT query_start FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'");
        tries.extend::<Vec<OffsetDateTime>>(waiting.fetch_all(&fixture.ctx.pg).await.unwrap());
        assert!(tokio::time::Instant::now() < deadline, "it is written again");
    }
    assert!(!writing.is_finished());
    blocker.rollback().await.unwrap();
    let finishes = tokio::time::timeout(Duration::from_secs(10), writing).await.unwrap().unwrap();
    assert_eq!(finishes[0].action, Action::End { state: "succeeded" });
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "succeeded");
}

#[test]
fn results_are_checked_before_they_reach_a_batch() {
    for (json, part) in [(r#""\u0000""#, "NUL"), (&"[".repeat(200), "deeper"), (&format!("\"{}\"", "a".repeat(100)), "bytes long")] {
        let json = if json.starts_with('[') { format!("{json}{}", "]".repeat(200)) } else { json.to_string() };
        let limit = if part == "bytes long" { 50 } else { 10_000 };
        let outcome = Outcome::Done(RawValue::from_string(json.clone()).unwrap()).checked(limit);
        assert!(matches!(&outcome, Outcome::ResultRejected(why) if why.contains(part)), "{outcome:?}");
    }
}

/// Rule 3: only a pending row is concluded.
#[tokio::test]
async fn a_parked_job_is_not_concluded() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (token, standing) = fixture.start_one(&worker()).await;
    sqlx::query("UPDATE jobs SET state = 'waiting', wait_reason = 'callback' WHERE id = $1")
        .bind(job.id.0)
        .execute(&fixture.ctx.pg)
        .await
        .unwrap();
    for outcome in [done(), Outcome::retry("boom", "it broke")] {
        let settled = write(&fixture, fixture.conclusion(token, standing, outcome)).await;
        assert_eq!((settled.verdict, settled.finish.action), (Verdict::Refused, Action::End { state: "" }));
    }
    let row = fixture.row_of(job.id).await.unwrap();
    assert_eq!((row.state.as_str(), row.standing.attempt), ("waiting", 0));
}

/// Rule 4: a commit that was answered has reached the disk, for submits and outcomes alike.
#[tokio::test]
async fn commits_wait_for_the_disk() {
    let fixture = Fixture::new().await;
    let setting: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&fixture.ctx.pg).await.unwrap();
    assert_eq!(setting, "on");
}
