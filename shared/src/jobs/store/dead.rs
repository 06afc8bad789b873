//! Dead letters of one queue: by page, by group, and the next few to be requeued or deleted.

use super::read::JobRow;
use crate::{
    ids::{JobId, UserId},
    pg::ByValues,
};
use futures_util::{Stream, StreamExt, future::Either};
use serde_json::value::RawValue;
use sqlx::{PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

/// Dead jobs from the newest to the oldest, of one error or of all, as they come from the server.
///
/// Two statements, because one with an optional condition would be planned without the index that serves it.
pub(in crate::jobs) fn dead_page<'a>(
    executor: ByValues<impl PgExecutor<'a> + 'a>,
    queue: &str,
    error_code: Option<&str>,
    below: Uuid,
    limit: i64,
) -> impl Stream<Item = sqlx::Result<JobRow>> + 'a {
    let Some(error_code) = error_code else {
        let all = sqlx::query_as!(
            JobRow,
            r#"SELECT
                id AS "id: JobId", owner_id AS "owner_id: UserId", kind, queue, state, priority,
                payload AS "payload: Json<Box<RawValue>>", run_at, expires_at, max_attempts, attempt, failures, error_code,
                error_message, unique_key, tags, request_id, created_at, result AS "result: Json<Box<RawValue>>", worker_id,
                started_at, finished_at AS "finished_at?"
            FROM jobs_ended
            WHERE queue = $1
              AND state = 'dead'
              AND id < $2
            ORDER BY id DESC
            LIMIT $3"#,
            queue,
            below,
            limit,
        );
        return Either::Left(all.fetch(executor));
    };
    let group = sqlx::query_as!(
        JobRow,
        r#"SELECT
            id AS "id: JobId", owner_id AS "owner_id: UserId", kind, queue, state, priority,
            payload AS "payload: Json<Box<RawValue>>", run_at, expires_at, max_attempts, attempt, failures, error_code,
            error_message, unique_key, tags, request_id, created_at, result AS "result: Json<Box<RawValue>>", worker_id,
            started_at, finished_at AS "finished_at?"
        FROM jobs_ended
        WHERE queue = $1
          AND state = 'dead'
          AND error_code = $2
          AND id < $3
        ORDER BY id DESC
        LIMIT $4"#,
        queue,
        error_code,
        below,
        limit,
    );
    Either::Right(group.fetch(executor).boxed())
}

/// Dead jobs of one error.
#[derive(Debug)]
pub(in crate::jobs) struct GroupRow {
    pub(in crate::jobs) code: String,
    pub(in crate::jobs) count: i64,
    pub(in crate::jobs) sample_id: JobId,
    pub(in crate::jobs) message: Option<String>,
    pub(in crate::jobs) last_at: OffsetDateTime,
}

/// Groups in the order of their codes, from behind `after` on, each counted up to `count_max`; the sample is the newest.
///
/// It jumps from one code to the next in the index, so that its cost is that of the groups and not of the jobs.
pub(in crate::jobs) async fn dead_groups(
    executor: ByValues<impl PgExecutor<'_>>,
    queue: &str,
    after: &str,
    count_max: i64,
    limit: i64,
) -> sqlx::Result<Vec<GroupRow>> {
    sqlx::query_as!(
        GroupRow,
        r#"WITH RECURSIVE codes AS (
            (
                SELECT error_code AS code, 1::bigint AS ordinal
                FROM jobs_ended
                WHERE queue = $1
                  AND state = 'dead'
                  AND error_code > $2
                ORDER BY error_code
                LIMIT 1
            )
            UNION ALL
            SELECT next.code, codes.ordinal + 1
            FROM codes
            CROSS JOIN LATERAL (
                SELECT error_code AS code
                FROM jobs_ended
                WHERE queue = $1
                  AND state = 'dead'
                  AND error_code > codes.code
                ORDER BY error_code
                LIMIT 1
            ) AS next
            WHERE codes.ordinal < $4
        )
        SELECT
            codes.code AS "code!",
            counted.n AS "count!",
            newest.id AS "sample_id!: JobId",
            newest.error_message AS message,
            newest.finished_at AS "last_at!"
        FROM codes
        CROSS JOIN LATERAL (
            SELECT count(*) AS n
            FROM (
                SELECT
                FROM jobs_ended
                WHERE queue = $1
                  AND state = 'dead'
                  AND error_code = codes.code
                LIMIT $3
            ) AS few
        ) AS counted
        CROSS JOIN LATERAL (
            SELECT id, error_message, finished_at
            FROM jobs_ended
            WHERE queue = $1
              AND state = 'dead'
              AND error_code = codes.code
            ORDER BY id DESC
            LIMIT 1
        ) AS newest
        ORDER BY codes.code"#,
        queue,
        after,
        count_max,
        limit,
    )
    .fetch_all(executor)
    .await
}

/// The next dead jobs of a queue after `after`, in the order of their ids.
pub(in crate::jobs) async fn dead_ids(
    executor: ByValues<impl PgExecutor<'_>>,
    queue: &str,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id
        FROM jobs_ended
        WHERE queue = $1
          AND state = 'dead'
          AND id > $2
        ORDER BY id
        LIMIT $3",
        queue,
        after,
        limit,
    )
    .fetch_all(executor)
    .await
}

/// The same, of those that died of one error.
pub(in crate::jobs) async fn dead_ids_of_error(
    executor: ByValues<impl PgExecutor<'_>>,
    queue: &str,
    error_code: &str,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id
        FROM jobs_ended
        WHERE queue = $1
          AND state = 'dead'
          AND error_code = $2
          AND id > $3
        ORDER BY id
        LIMIT $4",
        queue,
        error_code,
        after,
        limit,
    )
    .fetch_all(executor)
    .await
}

/// Those of `ids` that are dead and of this queue, in the order of their ids.
pub(in crate::jobs) async fn dead_among(executor: ByValues<impl PgExecutor<'_>>, queue: &str, ids: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id
        FROM jobs_ended
        WHERE id = ANY ($1)
          AND queue = $2
          AND state = 'dead'
        ORDER BY id",
        ids,
        queue,
    )
    .fetch_all(executor)
    .await
}

/// A kind of dead jobs, and a payload that some of them have where that matters.
#[derive(Debug)]
pub(in crate::jobs) struct KindRow {
    pub(in crate::jobs) kind: String,
    pub(in crate::jobs) payload: Option<Json<Box<RawValue>>>,
}

/// What kinds those of `ids` are of; of those in `with_payload` with each payload that there is.
pub(in crate::jobs) async fn kinds_of(executor: impl PgExecutor<'_>, ids: &[Uuid], with_payload: &[String]) -> sqlx::Result<Vec<KindRow>> {
    sqlx::query_as!(
        KindRow,
        r#"SELECT kind AS "kind!", payload::json AS "payload: Json<Box<RawValue>>"
        FROM (
            SELECT DISTINCT kind, CASE WHEN kind = ANY ($2) THEN payload::text END AS payload
            FROM jobs_ended
            WHERE id = ANY ($1)
              AND state = 'dead'
        ) AS kinds"#,
        ids,
        with_payload,
    )
    .fetch_all(executor)
    .await
}

/// Removes those of `ids` that are dead, with their history; returns how many.
pub(in crate::jobs) async fn delete_dead(executor: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<u64> {
    let n_deleted = sqlx::query_scalar!(
        r#"WITH gone AS (
            DELETE FROM jobs_ended
            WHERE id = ANY ($1)
              AND state = 'dead'
            RETURNING id
        ), history AS (
            DELETE FROM job_attempts
            USING gone
            WHERE job_id = ANY (ARRAY[gone.id])
        )
        SELECT count(*) AS "count!" FROM gone"#,
        ids,
    )
    .fetch_one(executor)
    .await?;
    Ok(n_deleted.unsigned_abs())
}
