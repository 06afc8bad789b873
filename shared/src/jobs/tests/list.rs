//! Pages over live and ended jobs, and their filters.

use super::*;
use crate::{
    Code,
    jobs::{
        JobState, ListJobs, list,
        store::read::{PageFilter, Scan, named_jobs_page},
    },
    page::Page,
    pg::ByValues,
};
use futures_util::TryStreamExt;
use rstest::rstest;

async fn page(fixture: &Fixture, caller: &Caller, query: Value) -> Page<Job> {
    list::list(&fixture.ctx, caller, &serde_json::from_value::<ListJobs>(query).unwrap()).await.unwrap()
}

/// Seven jobs, every other one ended.
async fn seven(fixture: &Fixture) -> Vec<JobId> {
    let mut ids = Vec::new();
    for n in 0..7 {
        let job = fixture.echo(json!({"payload": n})).await;
        if n % 2 == 0 {
            fixture.end(job.id, "succeeded").await;
        }
        ids.push(job.id);
    }
    ids.reverse();
    ids
}

/// So many more rows of the same kind, newer and unknown to Redis.
async fn many_like(fixture: &Fixture, id: JobId, n_jobs: i32) {
    sqlx::query(
        "INSERT INTO jobs (id, owner_id, kind, queue, priority, payload, run_at, max_attempts, retry_base_ms, retry_max_ms, created_at)
        SELECT (left($1::text, 24) || lpad(to_hex(n), 12, '0'))::uuid, owner_id, kind, queue, priority, payload, run_at, max_attempts,
            retry_base_ms, retry_max_ms, created_at
        FROM jobs, generate_series(1, $3) AS n
        WHERE id = $2",
    )
    .bind(JobId::new().0)
    .bind(id.0)
    .bind(n_jobs)
    .execute(&fixture.ctx.pg)
    .await
    .unwrap();
}

#[tokio::test]
async fn pages_run_newest_first_across_live_and_ended() {
    let fixture = Fixture::new().await;
    let expected = seven(&fixture).await;
    let mut seen = Vec::new();
    let mut cursor = Value::Null;
    for n_items in [3, 3, 1] {
        let page = page(&fixture, &fixture.user, json!({"limit": 3, "cursor": cursor})).await;
        assert_eq!(page.items.len(), n_items);
        seen.extend(page.items.iter().map(|job| job.id));
        cursor = json!(page.next_cursor);
    }
    assert_eq!((seen, cursor), (expected, Value::Null));
}

#[rstest]
#[case::the_queue(json!({"queue": "default"}), 7)]
#[case::of_one_kind(json!({"queue": "default", "kind": "debug.echo"}), 7)]
#[case::of_another(json!({"queue": "default", "kind": "debug.sleep"}), 0)]
#[case::of_one_state(json!({"queue": "default", "state": "succeeded"}), 4)]
#[tokio::test]
async fn a_queues_pages_run_newest_first_whatever_the_state(#[case] mut query: Value, #[case] n_expected: usize) {
    let fixture = Fixture::new().await;
    let ids = seven(&fixture).await;
    fixture.echo(json!({"queue": "other"})).await;
    let ended = |at: &usize| at.is_multiple_of(2);
    let expected: Vec<JobId> = match n_expected {
        4 => (0..7).filter(ended).map(|at| ids[at]).collect(),
        n => ids[..n].to_vec(),
    };
    let mut seen = Vec::new();
    query["limit"] = json!(3);
    loop {
        let page = page(&fixture, &caller(Role::Operator), query.clone()).await;
        seen.extend(page.items.iter().map(|job| job.id));
        query["cursor"] = json!(page.next_cursor);
        if page.next_cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn what_goes_away_while_it_is_read_does_not_end_the_pages() {
    let fixture = Fixture::new().await;
    let ids = seven(&fixture).await;
    let found = Scan { n_scanned: 3, last: Some(ids[2].0), ids: ids[..3].iter().map(|id| id.0).collect() };
    sqlx::query("DELETE FROM jobs WHERE id = $1").bind(ids[1].0).execute(&fixture.ctx.pg).await.unwrap();
    let request = crate::page::page_request::<uuid::Uuid>(Some(2), None).unwrap();
    let first = list::found_page(&fixture.ctx, found, 5_000, &request).await.unwrap();
    assert_eq!(first.items.iter().map(|row| row.id).collect::<Vec<_>>(), ids[..1]);
    let second = page(&fixture, &caller(Role::Operator), json!({"cursor": first.next_cursor, "queue": "default"})).await;
    assert_eq!(second.items[0].id, ids[2]);
}

#[tokio::test]
async fn users_see_theirs_and_operators_all() {
    let fixture = Fixture::new().await;
    seven(&fixture).await;
    let stranger = caller(Role::User);
    assert!(page(&fixture, &stranger, json!({})).await.items.is_empty());
    assert_eq!(page(&fixture, &caller(Role::Operator), json!({})).await.items.len(), 7);
}

#[rstest]
#[case::by_state(json!({"state": "dead"}), &["dead"])]
#[case::scheduled(json!({"state": "scheduled"}), &["later"])]
#[case::queued(json!({"state": "queued"}), &["tagged", "other queue", "plain"])]
#[case::running(json!({"state": "running"}), &[])]
#[case::retrying(json!({"state": "retrying"}), &[])]
#[case::waiting(json!({"state": "waiting"}), &[])]
#[case::by_queue(json!({"queue": "other"}), &["other queue"])]
#[case::by_kind(json!({"kind": "debug.fail"}), &["dead"])]
#[case::by_tag(json!({"tag": "red"}), &["tagged"])]
#[case::by_state_and_tag(json!({"state": "dead", "tag": "red"}), &[])]
#[case::no_such_queue(json!({"queue": "nowhere"}), &[])]
#[case::in_the_future(json!({"created_after": "2999-01-01T00:00:00Z"}), &[])]
#[case::in_the_past(json!({"created_before": "2000-01-01T00:00:00Z"}), &[])]
#[case::since_then(json!({"created_after": "2000-01-01T00:00:00Z", "created_before": "2999-01-01T00:00:00Z"}), &["tagged", "dead", "later", "other queue", "plain"])]
#[tokio::test]
async fn filters(#[case] query: Value, #[case] expected: &[&str]) {
    let fixture = Fixture::new().await;
    fixture.echo(json!({"payload": "plain"})).await;
    fixture.echo(json!({"payload": "other queue", "queue": "other"})).await;
    fixture.echo(json!({"payload": "later", "delay_ms": 60_000})).await;
    let dead = fixture.echo(json!({"payload": "dead", "kind": "debug.fail"})).await;
    fixture.end(dead.id, "dead").await;
    fixture.echo(json!({"payload": "tagged", "tags": ["green", "red"]})).await;
    let found = page(&fixture, &fixture.user, query).await;
    let names = found.items.iter().map(|job| job.payload.get().trim_matches('"')).collect::<Vec<_>>();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn the_time_range_is_exact_to_the_millisecond() {
    let fixture = Fixture::new().await;
    let ids = seven(&fixture).await;
    let third = crate::jobs::read::get(&fixture.ctx, &fixture.user, ids[3]).await.unwrap();
    let ms = i64::try_from(third.id.0.as_u128() >> 80).unwrap();
    let at = crate::clock::from_unix_ms(ms).unwrap().format(&time::format_description::well_known::Rfc3339).unwrap();
    let from = page(&fixture, &fixture.user, json!({"created_after": at})).await;
    assert!(from.items.iter().any(|job| job.id == third.id));
    let before = page(&fixture, &fixture.user, json!({"created_before": at})).await;
    assert!(before.items.iter().all(|job| job.id < third.id));
}

#[tokio::test]
async fn a_page_holds_no_more_bytes_than_an_answer_may() {
    let limits = [("MAX_BULK_BYTES", "4096"), ("MAX_BODY_BYTES", "4096"), ("MAX_PAYLOAD_BYTES", "4096")];
    let fixture = Fixture::with(&limits).await;
    for _ in 0..4 {
        fixture.echo(json!({"payload": "x".repeat(3_000)})).await;
    }
    let first = page(&fixture, &fixture.user, json!({})).await;
    assert_eq!(first.items.len(), 1);
    let second = page(&fixture, &fixture.user, json!({"cursor": first.next_cursor})).await;
    assert!(second.items[0].id < first.items[0].id);
}

#[rstest]
#[case::negative_limit(json!({"limit": -1}), Code::InvalidQuery)]
#[case::zero_limit(json!({"limit": 0}), Code::InvalidQuery)]
#[case::foreign_cursor(json!({"cursor": "nonsense!"}), Code::InvalidCursor)]
#[case::overlong_cursor(json!({"cursor": "A".repeat(201)}), Code::InvalidCursor)]
#[case::overlong_tag(json!({"tag": "a".repeat(65)}), Code::InvalidQuery)]
#[case::queue_is_no_name(json!({"queue": "a b"}), Code::InvalidQuery)]
#[tokio::test]
async fn refuses(#[case] query: Value, #[case] code: Code) {
    let fixture = Fixture::new().await;
    let query = serde_json::from_value::<ListJobs>(query).unwrap();
    let error = list::list(&fixture.ctx, &fixture.user, &query).await.unwrap_err();
    assert_eq!(error.code, code);
}

#[tokio::test]
async fn running_jobs_cannot_be_listed_while_redis_is_away() {
    let fixture = Fixture::with(&[("REDIS_URL", "redis://127.0.0.1:9/")]).await;
    let query = ListJobs { state: Some(JobState::Running), ..ListJobs::default() };
    let error = list::list(&fixture.ctx, &fixture.user, &query).await.unwrap_err();
    assert_eq!(error.code, Code::RedisUnavailable);
}

#[tokio::test]
async fn a_rare_kind_is_found_page_by_page_and_no_page_looks_at_everything() {
    let fixture = Fixture::new().await;
    let rare = fixture.submit(json!({"kind": "debug.sleep", "payload": {"ms": 1}, "tags": ["rare"], "queue": "rare"})).await.unwrap();
    let other = fixture.echo(json!({})).await;
    many_like(&fixture, other.id, 6_000).await;
    for filter in [json!({"kind": "debug.sleep"}), json!({"tag": "rare"}), json!({"queue": "rare"})] {
        let first = page(&fixture, &fixture.user, filter.clone()).await;
        assert_eq!((first.items.len(), first.next_cursor.is_some()), (0, true));
        let mut rest = filter;
        rest["cursor"] = json!(first.next_cursor);
        let second = page(&fixture, &fixture.user, rest).await;
        assert_eq!((second.items[0].id, second.items.len(), second.next_cursor), (rare.id, 1, None));
    }
    let full = page(&fixture, &fixture.user, json!({"kind": "debug.echo", "limit": 2})).await;
    assert_eq!((full.items.len(), full.next_cursor.is_some()), (2, true));
}

#[rstest]
#[case::retrying("retrying", "pending", 1, "1 hour")]
#[case::waiting("waiting", "waiting", 0, "0")]
#[case::queued("queued", "pending", 0, "-1 hour")]
#[tokio::test]
async fn a_state_that_few_have_is_found_page_by_page_too(
    #[case] state: &str,
    #[case] stored: &str,
    #[case] failures: i32,
    #[case] due_in: &str,
) {
    let fixture = Fixture::new().await;
    let few = fixture.echo(json!({})).await;
    let other = fixture.echo(json!({"delay_ms": 3_600_000})).await;
    let change = sqlx::query("UPDATE jobs SET state = $2, failures = $3, run_at = now() + $4::interval WHERE id = $1");
    change.bind(few.id.0).bind(stored).bind(failures).bind(due_in).execute(&fixture.ctx.pg).await.unwrap();
    many_like(&fixture, other.id, 25_000).await;
    for of in [&fixture.user, &caller(Role::Operator)] {
        let first = page(&fixture, of, json!({"state": state})).await;
        assert_eq!((first.items.len(), first.next_cursor.is_some()), (0, true), "it ends before it has looked at all");
        let second = page(&fixture, of, json!({"state": state, "cursor": first.next_cursor})).await;
        assert_eq!((second.items[0].id, second.items.len(), second.next_cursor), (few.id, 1, None));
        let in_queue = page(&fixture, of, json!({"state": state, "queue": "default"})).await;
        assert_eq!((in_queue.items.len(), in_queue.next_cursor.is_some()), (0, true));
    }
}

#[tokio::test]
async fn jobs_that_ended_are_not_looked_at_for_one_that_has_not() {
    let fixture = Fixture::new().await;
    let retrying = fixture.echo(json!({"delay_ms": 3_600_000})).await;
    sqlx::query("UPDATE jobs SET failures = 1 WHERE id = $1").bind(retrying.id.0).execute(&fixture.ctx.pg).await.unwrap();
    let ended = fixture.echo(json!({})).await;
    many_like(&fixture, ended.id, 25_000).await;
    let end = "WITH gone AS (DELETE FROM jobs WHERE id <> $1 RETURNING *)
        INSERT INTO jobs_ended (id, owner_id, kind, queue, state, priority, payload, run_at, max_attempts, retry_base_ms, retry_max_ms, attempt,
            failures, snoozes, tags, created_at, finished_at)
        SELECT id, owner_id, kind, queue, 'succeeded', priority, payload, run_at, max_attempts, retry_base_ms, retry_max_ms, 1, 0, 0, tags,
            created_at, now()
        FROM gone";
    sqlx::query(end).bind(retrying.id.0).execute(&fixture.ctx.pg).await.unwrap();
    for of in [&fixture.user, &caller(Role::Operator)] {
        let found = page(&fixture, of, json!({"state": "retrying"})).await;
        assert_eq!((found.items[0].id, found.items.len(), found.next_cursor), (retrying.id, 1, None));
    }
}

#[tokio::test]
async fn of_a_deep_queue_the_figures_are_those_of_redis() {
    let fixture = Fixture::new().await;
    let job = fixture.echo(json!({})).await;
    many_like(&fixture, job.id, 10_000).await;
    let queue = crate::jobs::queues::get(&fixture.ctx, &fixture.user, &"default".parse().unwrap()).await.unwrap();
    assert_eq!((queue.stats.queued, queue.stats.scheduled), (1, 0), "the others were never announced");
}

#[tokio::test]
async fn jobs_that_are_known_by_id_are_looked_up() {
    let fixture = Fixture::new().await;
    let ids = seven(&fixture).await;
    many_like(&fixture, ids[1], 5_000).await;
    let known: Vec<_> = ids.iter().map(|id| id.0).collect();
    let mut transaction = fixture.ctx.pg.begin().await.unwrap();
    sqlx::query("ANALYZE jobs").execute(&mut *transaction).await.unwrap();
    let read = || sqlx::query_scalar::<_, i64>("SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables");
    let n_before = read().fetch_one(&mut *transaction).await.unwrap();
    let now = fixture.ctx.clock.now();
    let rows: Vec<_> = named_jobs_page(ByValues(&mut *transaction), &known, &PageFilter::default(), now, 8).try_collect().await.unwrap();
    let n_read = read().fetch_one(&mut *transaction).await.unwrap() - n_before;
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    assert!(n_read < 100, "{n_read} rows read for {}", ids.len());
}
