//! One job, and its attempts.

use super::*;
use crate::{
    Code,
    jobs::{AttemptOutcome, JobState, attempts, lookup, read, store},
    page::PageRequest,
};

#[tokio::test]
async fn an_ended_job_shows_its_result_and_times() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({"payload": [1, 2]})).await;
    fixture.end(job.id, "succeeded").await;
    let ended = read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap();
    assert_eq!((ended.state, ended.attempt, ended.worker_id.as_deref()), (JobState::Succeeded, 1, Some("worker-1")));
    assert_eq!(ended.result.unwrap().get(), "[1,2]");
    assert!(ended.finished_at.is_some());
}

#[tokio::test]
async fn the_fast_lookup_and_the_checked_one_agree() {
    let fixture = Fixture::new().await;
    let live = fixture.echo(json!({"tags": ["a"], "expires_at": "2999-01-01T00:00:00Z"})).await;
    let ended = fixture.echo(json!({"payload": [1], "delay_ms": 5})).await;
    fixture.end(ended.id, "succeeded").await;
    for id in [live.id, ended.id] {
        let fast = lookup::row_by_id(&fixture.ctx, id).await.unwrap();
        let checked = store::read::jobs_by_ids(&fixture.ctx.pg, &[id]).await.unwrap().pop();
        assert_eq!(format!("{fast:?}"), format!("{checked:?}"));
        assert!(fast.is_some());
    }
}

#[tokio::test]
async fn a_crowd_of_lookups_gets_each_its_own_row() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(fixture.echo(json!({})).await.id);
    }
    ids.push(crate::ids::JobId::new());
    let crowd = (0..400).map(|asker| {
        let (ctx, id) = (fixture.ctx.clone(), ids[asker % ids.len()]);
        async move { (id, lookup::row_by_id(&ctx, id).await.unwrap().map(|row| row.id)) }
    });
    let answers = futures_util::future::join_all(crowd).await;
    assert!(answers.iter().all(|(id, found)| *found == (*id != ids[3]).then_some(*id)));
}

#[tokio::test]
async fn a_failed_lookup_is_told_to_everybody() {
    let fixture = Fixture::new().await;
    fixture.ctx.pg.close().await;
    let crowd = (0..20).map(|_| lookup::row_by_id(&fixture.ctx, crate::ids::JobId::new()));
    let answers = futures_util::future::join_all(crowd).await;
    assert!(answers.into_iter().all(|answer| answer.is_err_and(|error| error.code == Code::DatabaseUnavailable)));
}

#[tokio::test]
async fn a_job_is_found_whichever_partition_holds_it() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({})).await;
    fixture.end(job.id, "succeeded").await;
    assert!(read::get(&fixture.ctx, &fixture.user, job.id).await.is_ok());
    // The day's partition goes while its statement is known, and the row is caught by the default one.
    let day = format!("jobs_ended_{:04}{:02}{:02}", job.created_at.year(), u8::from(job.created_at.month()), job.created_at.day());
    let script = format!("CREATE TABLE kept AS SELECT * FROM {day}; DROP TABLE {day}; INSERT INTO jobs_ended SELECT * FROM kept;",);
    sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&fixture.ctx.pg).await.unwrap();
    assert!(read::get(&fixture.ctx, &fixture.user, job.id).await.is_ok());
    let added: bool =
        sqlx::query_scalar("SELECT jobs_ended_add_day($1)").bind(job.created_at.date()).fetch_one(&fixture.ctx.pg).await.unwrap();
    assert!(added);
    assert!(read::get(&fixture.ctx, &fixture.user, job.id).await.is_ok());
    assert_eq!(fixture.count("jobs_ended_default").await, 0);
}

#[tokio::test]
async fn another_users_job_looks_like_none() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({})).await;
    let stranger = caller(Role::User);
    assert_eq!(read::get(&fixture.ctx, &stranger, job.id).await.unwrap_err().code, Code::NotFound);
    let request = PageRequest { limit: 10, before: None };
    assert_eq!(attempts::list(&fixture.ctx, &stranger, job.id, &request).await.unwrap_err().code, Code::NotFound);
    read::get(&fixture.ctx, &caller(Role::Operator), job.id).await.unwrap();
    assert_eq!(read::get(&fixture.ctx, &fixture.user, JobId::new()).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn attempts_come_last_first_by_page() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({})).await;
    sqlx::query(
        "INSERT INTO job_attempts
        SELECT $1, n, 'worker-1', CASE WHEN n = 2 THEN 'lost' ELSE 'failed' END, 'code', 'message', now(), now()
        FROM generate_series(1, 3) AS n",
    )
    .bind(job.id.0)
    .execute(&fixture.ctx.pg)
    .await
    .unwrap();
    let first = attempts::list(&fixture.ctx, &fixture.user, job.id, &PageRequest { limit: 2, before: None }).await.unwrap();
    let outcomes = first.items.iter().map(|attempt| (attempt.attempt, attempt.outcome)).collect::<Vec<_>>();
    assert_eq!(outcomes, [(3, AttemptOutcome::Failed), (2, AttemptOutcome::Lost)]);
    let query = crate::page::page_request(Some(2), first.next_cursor.as_deref()).unwrap();
    let second = attempts::list(&fixture.ctx, &fixture.user, job.id, &query).await.unwrap();
    assert_eq!((second.items.len(), second.items[0].attempt, second.next_cursor), (1, 1, None));
}
