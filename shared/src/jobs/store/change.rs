//! Changing single jobs on a caller's behalf: cancel, requeue, delete. Each guards itself against what a worker concludes meanwhile.
//! Rows are found by `= ANY (ARRAY[…])` for the reason that `conclude.sql` gives.

use crate::{
    ids::{BatchId, JobId, UserId},
    pg::ByValues,
};
use serde_json::value::RawValue;
use sqlx::{PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

/// Writes the wish to cancel and tells the job's queue; `None` when the job is not live.
pub(in crate::jobs) async fn request_cancel(executor: impl PgExecutor<'_>, id: JobId, now: OffsetDateTime) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "UPDATE jobs
        SET cancel_requested_at = coalesce(cancel_requested_at, $2)
        WHERE id = $1
        RETURNING queue",
        id.0,
        now,
    )
    .fetch_optional(executor)
    .await
}

/// [`request_cancel`] of many.
pub(in crate::jobs) async fn request_cancels(executor: impl PgExecutor<'_>, ids: &[Uuid], now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE jobs
        SET cancel_requested_at = coalesce(cancel_requested_at, $2)
        WHERE id = ANY ($1)",
        ids,
        now,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// What the workers need of a job that came back to life.
#[derive(Debug)]
pub(in crate::jobs) struct Requeued {
    pub(in crate::jobs) id: JobId,
    pub(in crate::jobs) owner_id: UserId,
    pub(in crate::jobs) kind: String,
    pub(in crate::jobs) priority: i16,
    /// If it is short enough to travel.
    pub(in crate::jobs) payload: Option<Json<Box<RawValue>>>,
    pub(in crate::jobs) run_at: OffsetDateTime,
    pub(in crate::jobs) expires_at: Option<OffsetDateTime>,
    pub(in crate::jobs) timeout_ms: Option<i32>,
    pub(in crate::jobs) max_attempts: i32,
    pub(in crate::jobs) retry_base_ms: i32,
    pub(in crate::jobs) retry_max_ms: i32,
    pub(in crate::jobs) attempt: i32,
    pub(in crate::jobs) request_id: Option<String>,
    pub(in crate::jobs) traceparent: Option<String>,
    pub(in crate::jobs) concurrency_key: Option<String>,
}

/// Brings those of `ids` that are dead back to life, due now, with their failures and crashes forgotten and their attempts
/// counted on. Payloads of more than `inline_max` bytes are left out of the answer.
pub(in crate::jobs) async fn requeue_dead(
    executor: impl PgExecutor<'_>,
    ids: &[Uuid],
    now: OffsetDateTime,
    inline_max: i32,
) -> sqlx::Result<Vec<Requeued>> {
    sqlx::query_as!(
        Requeued,
        r#"WITH back AS (
            DELETE FROM jobs_ended
            WHERE id = ANY ($1)
              AND state = 'dead'
            RETURNING *
        ),
        counted AS (
            INSERT INTO batch_changes (batch_id, dead)
            SELECT batch_id, -count(*)
            FROM back
            WHERE batch_id IS NOT NULL
            GROUP BY batch_id
        )
        INSERT INTO jobs (
            id, owner_id, kind, queue, priority, payload, run_at, expires_at, timeout_ms, max_attempts, retry_base_ms,
            retry_max_ms, attempt, nonce, unique_key, concurrency_key, tags, target, batch_id, request_id, traceparent, created_at
        )
        SELECT
            id, owner_id, kind, queue, priority, payload, $2, CASE WHEN expires_at > $2 THEN expires_at END, timeout_ms, max_attempts,
            retry_base_ms, retry_max_ms, attempt, nonce, unique_key, concurrency_key, tags, target, batch_id, request_id, traceparent,
            created_at
        FROM back
        RETURNING
            id AS "id: JobId", owner_id AS "owner_id: UserId", kind, priority,
            CASE WHEN octet_length(payload::text) <= $3 THEN payload END AS "payload: Json<Box<RawValue>>",
            run_at, expires_at, timeout_ms, max_attempts, retry_base_ms, retry_max_ms, attempt, request_id, traceparent,
            concurrency_key"#,
        ids,
        now,
        inline_max,
    )
    .fetch_all(executor)
    .await
}

/// Removes a live job of which no attempt from `taken` on was concluded, with its history; `None` when there is none.
pub(in crate::jobs) async fn delete_live(executor: impl PgExecutor<'_>, id: JobId, taken: i32) -> sqlx::Result<Option<Deleted>> {
    Ok(delete_live_many(executor, &[id.0], &[taken]).await?.pop())
}

/// A live job that was removed.
#[derive(Debug)]
pub(in crate::jobs) struct Deleted {
    /// Whether some job may wait for it.
    pub(in crate::jobs) awaited: bool,
    pub(in crate::jobs) batch_id: Option<BatchId>,
}

/// Removes an ended job with its history.
pub(in crate::jobs) async fn delete_ended(executor: impl PgExecutor<'_>, id: JobId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "WITH gone AS (
            DELETE FROM jobs_ended
            WHERE id = $1
            RETURNING id
        ), history AS (
            DELETE FROM job_attempts USING gone
            WHERE job_id = ANY (ARRAY[gone.id])
        )
        SELECT id FROM gone",
        id.0,
    )
    .fetch_optional(executor)
    .await?;
    Ok(done.is_some())
}

/// Removes the history of jobs that have no row.
pub(in crate::jobs) async fn delete_attempts(executor: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM job_attempts WHERE job_id = ANY ($1)", ids).execute(executor).await?;
    Ok(())
}

/// [`delete_live`] of many. Those who wait for them, and their batches, are told as by `conclude.sql`.
pub(in crate::jobs) async fn delete_live_many(executor: impl PgExecutor<'_>, ids: &[Uuid], taken: &[i32]) -> sqlx::Result<Vec<Deleted>> {
    sqlx::query_as!(
        Deleted,
        r#"WITH seen AS (
            SELECT * FROM unnest($1::uuid[], $2::integer[]) AS seen (id, taken)
        ), gone AS (
            DELETE FROM jobs USING seen
            WHERE jobs.id = ANY (ARRAY[seen.id]) AND jobs.attempt < seen.taken
            RETURNING jobs.id, state, awaited, batch_id
        ), history AS (
            DELETE FROM job_attempts USING gone
            WHERE job_id = ANY (ARRAY[gone.id])
        ), freed AS (
            DELETE FROM job_dependencies USING gone
            WHERE gone.state = 'waiting' AND job_id = ANY (ARRAY[gone.id])
        ), dependencies AS (
            INSERT INTO ended_dependencies (job_id, state)
            SELECT id, 'deleted' FROM gone WHERE awaited
        ), counted AS (
            INSERT INTO batch_changes (batch_id, total, waiting)
            SELECT batch_id, -count(*), -count(*) FILTER (WHERE state = 'waiting')
            FROM gone
            WHERE batch_id IS NOT NULL
            GROUP BY batch_id
        ), left_out AS (
            DELETE FROM batch_jobs USING gone
            WHERE batch_jobs.batch_id = gone.batch_id AND batch_jobs.job_id = gone.id
        )
        SELECT awaited AS "awaited!", batch_id AS "batch_id?: BatchId" FROM gone"#,
        ids,
        taken,
    )
    .fetch_all(executor)
    .await
}

/// Which of a queue's live jobs; `None` filters nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::jobs) struct LiveFilter {
    pub(in crate::jobs) state: Option<&'static str>,
    pub(in crate::jobs) due: Option<bool>,
    pub(in crate::jobs) failed_before: Option<bool>,
}

/// A queue's live jobs with the attempt they stand at, in the order of their ids.
pub(in crate::jobs) async fn live_of(
    executor: ByValues<impl PgExecutor<'_>>,
    queue: &str,
    filter: &LiveFilter,
    now: OffsetDateTime,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<(JobId, i32)>> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id: JobId", attempt
        FROM jobs
        WHERE queue = $1
            AND id > $2
            AND ($3::text IS NULL OR state = $3)
            AND ($4::boolean IS NULL OR (run_at <= $5) = $4)
            AND ($6::boolean IS NULL OR (failures > 0) = $6)
        ORDER BY id
        LIMIT $7"#,
        queue,
        after,
        filter.state,
        filter.due,
        now,
        filter.failed_before,
        limit,
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.attempt)).collect())
}

/// Removes up to `limit` ended jobs of one state, the oldest first, with their history; returns how many.
pub(in crate::jobs) async fn delete_ended_of(executor: impl PgExecutor<'_>, queue: &str, state: &str, limit: i64) -> sqlx::Result<u64> {
    let n_deleted = sqlx::query_scalar!(
        r#"WITH oldest AS (
            SELECT id
            FROM jobs_ended
            WHERE queue = $1 AND state = $2
            ORDER BY id
            LIMIT $3
        ), gone AS (
            DELETE FROM jobs_ended USING oldest
            WHERE jobs_ended.id = ANY (ARRAY[oldest.id])
            RETURNING jobs_ended.id
        ), history AS (
            DELETE FROM job_attempts USING gone
            WHERE job_id = ANY (ARRAY[gone.id])
        )
        SELECT count(*) AS "count!" FROM gone"#,
        queue,
        state,
        limit,
    )
    .fetch_one(executor)
    .await?;
    Ok(n_deleted.unsigned_abs())
}
