//! Batches that have to be counted anew, and those that are old.

use crate::ids::BatchId;
use sqlx::PgPool;
use time::OffsetDateTime;

/// Closed batches from before `before` that are not complete although none of their jobs lives.
pub(in crate::jobs::batches) async fn stuck(pg: &PgPool, before: OffsetDateTime, limit: i64) -> sqlx::Result<Vec<BatchId>> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: BatchId"
        FROM batches
        WHERE completed_at IS NULL
          AND closed
          AND created_at < $1
          AND NOT EXISTS (SELECT FROM batch_changes WHERE batch_changes.batch_id = batches.id)
          AND NOT EXISTS (
            SELECT
            FROM batch_jobs
            JOIN jobs ON jobs.id = batch_jobs.job_id
            WHERE batch_jobs.batch_id = batches.id
          )
        LIMIT $2"#,
        before,
        limit,
    )
    .fetch_all(pg)
    .await
}

/// Counts the jobs of a batch of which none lives; those that are gone count no more.
pub(in crate::jobs::batches) async fn recount(pg: &PgPool, id: BatchId) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE batches
        SET total = counted.total, waiting = 0, succeeded = counted.succeeded, dead = counted.dead, cancelled = counted.cancelled,
            expired = counted.expired
        FROM (
            SELECT
                count(*) AS total, count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
                count(*) FILTER (WHERE state = 'dead') AS dead, count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
                count(*) FILTER (WHERE state = 'expired') AS expired
            FROM batch_jobs
            JOIN jobs_ended ON jobs_ended.id = batch_jobs.job_id
            WHERE batch_jobs.batch_id = $1
        ) AS counted
        WHERE id = $1 AND completed_at IS NULL",
        id.0,
    )
    .execute(pg)
    .await?;
    Ok(())
}

/// Removes batches that had nothing to do since `cutoff`, and up to `limit` of their jobs' membership; returns how much was removed.
pub(in crate::jobs::batches) async fn prune(pg: &PgPool, cutoff: OffsetDateTime, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query_scalar!(
        r#"WITH old AS (
            SELECT id
            FROM batches
            WHERE id < uuid_v7_floor($1)
              AND COALESCE(completed_at, created_at) < $1
              AND total = succeeded + dead + cancelled + expired
              AND NOT EXISTS (SELECT FROM batch_changes WHERE batch_changes.batch_id = batches.id)
            ORDER BY id
            LIMIT 100
        ),
        members AS (
            SELECT batch_id, job_id
            FROM batch_jobs
            WHERE batch_id = ANY (ARRAY (SELECT id FROM old))
            LIMIT $2
        ),
        gone AS (
            DELETE FROM batch_jobs
            USING members
            WHERE batch_jobs.batch_id = members.batch_id
              AND batch_jobs.job_id = members.job_id
            RETURNING 1
        ),
        -- A batch goes once it has no jobs left.
        batches_gone AS (
            DELETE FROM batches
            USING old
            WHERE batches.id = old.id
              AND NOT EXISTS (SELECT FROM batch_jobs WHERE batch_jobs.batch_id = old.id)
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM batches_gone) AS "n!""#,
        cutoff,
        limit,
    )
    .fetch_one(pg)
    .await?;
    Ok(done.unsigned_abs())
}
