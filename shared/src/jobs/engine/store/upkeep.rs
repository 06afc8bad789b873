//! The engine's SQL of the slow loops: queues that have to be there, partitions ahead of time, and what is past its retention.

use crate::Result;
use sqlx::PgPool;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

/// Makes the queues of `names` that have no row.
pub(in crate::jobs::engine) async fn add_missing_queues(pg: &PgPool, names: &[&str]) -> Result<u64> {
    let added = sqlx::query!(
        "INSERT INTO queues (name)
        SELECT name
        FROM unnest($1::text[]) AS name
        WHERE NOT EXISTS (SELECT FROM queues WHERE queues.name = name.name)
        ON CONFLICT (name) DO NOTHING",
        names as _,
    )
    .execute(pg)
    .await?;
    Ok(added.rows_affected())
}

/// Makes the partitions of `today` and of the days after it; returns how many were missing.
pub(in crate::jobs::engine) async fn add_days(pg: &PgPool, today: Date, n_ahead: i32) -> Result<i64> {
    let n_added = sqlx::query_scalar!(
        r#"SELECT count(*) FILTER (WHERE jobs_ended_add_day($1::date + ahead)) AS "n!"
        FROM generate_series(0, $2::int) AS ahead"#,
        today,
        n_ahead,
    )
    .fetch_one(pg)
    .await?;
    Ok(n_added)
}

/// How long a queue keeps what has ended.
#[derive(Debug)]
pub(in crate::jobs::engine) struct Retention {
    pub(in crate::jobs::engine) queue: String,
    /// `None`: `JOB_RETENTION_DAYS`.
    pub(in crate::jobs::engine) succeeded_s: Option<i32>,
    pub(in crate::jobs::engine) dead_s: i32,
}

/// Of every queue that has ended jobs, deleted ones too; it jumps from queue to queue in an index, which has no queue that is NULL.
pub(in crate::jobs::engine) async fn retentions(pg: &PgPool) -> Result<Vec<Retention>> {
    let rows = sqlx::query_as!(
        Retention,
        r#"WITH RECURSIVE ended AS (
            (SELECT queue FROM jobs_ended WHERE queue IS NOT NULL ORDER BY queue LIMIT 1)
            UNION ALL
            SELECT next.queue
            FROM ended
            CROSS JOIN LATERAL (SELECT queue FROM jobs_ended WHERE queue > ended.queue ORDER BY queue LIMIT 1) AS next
        )
        SELECT
            ended.queue AS "queue!",
            succeeded_retention_s AS succeeded_s,
            COALESCE(dead_retention_s, 2592000) AS "dead_s!"
        FROM ended
        LEFT JOIN queues ON queues.name = ended.queue"#,
    )
    .fetch_all(pg)
    .await?;
    Ok(rows)
}

/// Removes up to `limit` jobs of one queue and state that ended before `cutoff`, with their attempts; returns how many.
pub(in crate::jobs::engine) async fn prune_ended(
    pg: &PgPool,
    queue: &str,
    state: &str,
    below: Uuid,
    cutoff: OffsetDateTime,
    limit: i64,
) -> Result<i64> {
    let n_removed = sqlx::query_scalar!(
        r#"WITH old AS (
            SELECT id
            FROM jobs_ended
            WHERE queue = $1
              AND state = $2
              AND id < $3
              AND finished_at < $4
            ORDER BY id
            LIMIT $5
        ),
        gone AS (
            DELETE FROM jobs_ended
            USING old
            WHERE jobs_ended.id = ANY (ARRAY[old.id])
            RETURNING jobs_ended.id
        ),
        attempts AS (
            DELETE FROM job_attempts
            USING gone
            WHERE job_id = ANY (ARRAY[gone.id])
        )
        SELECT count(*) AS "n!" FROM gone"#,
        queue,
        state,
        below,
        cutoff,
        limit,
    )
    .fetch_one(pg)
    .await?;
    Ok(n_removed)
}
