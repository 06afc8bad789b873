//! The queues' settings, and what is counted of them in PostgreSQL.

use crate::jobs::queues::QueueSettings;
use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

pub(in crate::jobs) async fn queue_by_name(executor: impl PgExecutor<'_>, name: &str) -> sqlx::Result<Option<QueueSettings>> {
    sqlx::query_as!(
        QueueSettings,
        "SELECT name, paused, remote, max_depth, succeeded_retention_s, dead_retention_s, retry_max_attempts, retry_base_ms, retry_max_ms
        FROM queues
        WHERE name = $1",
        name,
    )
    .fetch_optional(executor)
    .await
}

/// Makes a queue with defaults unless it exists or `max_queues` do.
pub(in crate::jobs) async fn create_queue(executor: impl PgExecutor<'_>, name: &str, max_queues: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO queues (name)
        SELECT $1
        WHERE (SELECT count(*) FROM queues) < $2
        ON CONFLICT (name) DO NOTHING",
        name,
        max_queues,
    )
    .execute(executor)
    .await?;
    Ok(())
}

pub(in crate::jobs) async fn queues_page(
    executor: impl PgExecutor<'_>,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<QueueSettings>> {
    sqlx::query_as!(
        QueueSettings,
        "SELECT name, paused, remote, max_depth, succeeded_retention_s, dead_retention_s, retry_max_attempts, retry_base_ms, retry_max_ms
        FROM queues
        WHERE ($1::text IS NULL OR name > $1)
        ORDER BY name
        LIMIT $2",
        after,
        limit,
    )
    .fetch_all(executor)
    .await
}

pub(in crate::jobs) async fn queue_names(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("SELECT name FROM queues").fetch_all(executor).await
}

/// When the first of these jobs was due that still waits.
pub(in crate::jobs) async fn oldest_run_at(executor: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Option<OffsetDateTime>> {
    sqlx::query_scalar!(
        "SELECT min(run_at)
        FROM jobs
        WHERE id = ANY ($1) AND state = 'pending'",
        ids,
    )
    .fetch_one(executor)
    .await
}

/// Writes every setting that a caller may change.
pub(in crate::jobs) async fn update_queue(executor: impl PgExecutor<'_>, queue: &QueueSettings) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE queues
        SET paused = $2, remote = $3, max_depth = $4, succeeded_retention_s = $5, dead_retention_s = $6, retry_max_attempts = $7,
            retry_base_ms = $8, retry_max_ms = $9, updated_at = now()
        WHERE name = $1",
        queue.name,
        queue.paused,
        queue.remote,
        queue.max_depth,
        queue.succeeded_retention_s,
        queue.dead_retention_s,
        queue.retry_max_attempts,
        queue.retry_base_ms,
        queue.retry_max_ms,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Live jobs of one queue, told apart as far as PostgreSQL can; running ones are among the due.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::jobs) struct LiveCounts {
    pub(in crate::jobs) due: i64,
    pub(in crate::jobs) scheduled: i64,
    pub(in crate::jobs) retrying: i64,
}

/// Counts at most `limit` live jobs of a queue.
pub(in crate::jobs) async fn live_counts(
    executor: impl PgExecutor<'_>,
    queue: &str,
    now: OffsetDateTime,
    limit: i64,
) -> sqlx::Result<LiveCounts> {
    sqlx::query_as!(
        LiveCounts,
        r#"SELECT
            count(*) FILTER (WHERE state = 'pending' AND run_at <= $2) AS "due!",
            count(*) FILTER (WHERE state = 'pending' AND run_at > $2 AND failures = 0) AS "scheduled!",
            count(*) FILTER (WHERE state = 'pending' AND run_at > $2 AND failures > 0) AS "retrying!"
        FROM (SELECT state, run_at, failures FROM jobs WHERE queue = $1 LIMIT $3) AS live"#,
        queue,
        now,
        limit,
    )
    .fetch_one(executor)
    .await
}

/// Counts at most `limit` dead jobs of a queue.
pub(in crate::jobs) async fn dead_count(executor: impl PgExecutor<'_>, queue: &str, limit: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!"
        FROM (SELECT 1 AS one FROM jobs_ended WHERE queue = $1 AND state = 'dead' LIMIT $2) AS dead"#,
        queue,
        limit,
    )
    .fetch_one(executor)
    .await
}
