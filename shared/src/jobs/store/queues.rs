//! The queues' settings, and what is counted of them in PostgreSQL.

use crate::{
    ids::UserId,
    jobs::queues::{Durability, QueueSettings},
    pg::ByValues,
};
use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

pub(in crate::jobs) async fn queue_by_name(executor: impl PgExecutor<'_>, name: &str) -> sqlx::Result<Option<QueueSettings>> {
    sqlx::query_as!(
        QueueSettings,
        r#"SELECT name, paused, remote, durability AS "durability: Durability", max_depth, concurrency, rate_limit, rate_per_ms,
            per_key_concurrency, succeeded_retention_s, dead_retention_s, retry_max_attempts, retry_base_ms, retry_max_ms
        FROM queues
        WHERE name = $1"#,
        name,
    )
    .fetch_optional(executor)
    .await
}

/// The same, and keeps others from changing it until the transaction ends.
pub(in crate::jobs) async fn lock_queue(executor: impl PgExecutor<'_>, name: &str) -> sqlx::Result<Option<QueueSettings>> {
    sqlx::query_as!(
        QueueSettings,
        r#"SELECT name, paused, remote, durability AS "durability: Durability", max_depth, concurrency, rate_limit, rate_per_ms,
            per_key_concurrency, succeeded_retention_s, dead_retention_s, retry_max_attempts, retry_base_ms, retry_max_ms
        FROM queues
        WHERE name = $1
        FOR UPDATE"#,
        name,
    )
    .fetch_optional(executor)
    .await
}

/// Sets nothing but whether a queue is paused; `None` when there is no such queue.
pub(in crate::jobs) async fn set_paused(executor: impl PgExecutor<'_>, name: &str, is_paused: bool) -> sqlx::Result<Option<QueueSettings>> {
    sqlx::query_as!(
        QueueSettings,
        r#"UPDATE queues
        SET paused = $2, updated_at = now()
        WHERE name = $1
        RETURNING name, paused, remote, durability AS "durability: Durability", max_depth, concurrency, rate_limit, rate_per_ms,
            per_key_concurrency, succeeded_retention_s, dead_retention_s, retry_max_attempts, retry_base_ms, retry_max_ms"#,
        name,
        is_paused,
    )
    .fetch_optional(executor)
    .await
}

/// Whether any job of the queue is still to be done.
pub(in crate::jobs) async fn has_live_jobs(executor: impl PgExecutor<'_>, name: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM jobs WHERE queue = $1) AS "exists!""#, name).fetch_one(executor).await
}

/// Its ended jobs stay.
pub(in crate::jobs) async fn delete_queue(executor: impl PgExecutor<'_>, name: &str) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM queues WHERE name = $1", name).execute(executor).await?;
    Ok(())
}

/// Makes a queue with defaults unless it exists, or `max_queues` do, or `max_of_creator` that the same user made.
pub(in crate::jobs) async fn create_queue(
    executor: impl PgExecutor<'_>,
    name: &str,
    created_by: Option<UserId>,
    (max_queues, max_of_creator): (i64, i64),
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO queues (name, created_by)
        SELECT $1, $2
        WHERE (SELECT count(*) FROM queues) < $3
          AND ($2::uuid IS NULL OR (SELECT count(*) FROM queues WHERE created_by = $2) < $4)
        ON CONFLICT (name) DO NOTHING",
        name,
        created_by.map(|id| id.0),
        max_queues,
        max_of_creator,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Lets one transaction at a time make queues: two at once would count before either has made its own.
pub(in crate::jobs) async fn lock_creation(executor: impl PgExecutor<'_>) -> sqlx::Result<()> {
    // The number only has to differ from other advisory locks of this database.
    sqlx::query!("SELECT pg_advisory_xact_lock(7205761)").execute(executor).await?;
    Ok(())
}

pub(in crate::jobs) async fn queues_page(
    executor: ByValues<impl PgExecutor<'_>>,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<QueueSettings>> {
    sqlx::query_as!(
        QueueSettings,
        r#"SELECT name, paused, remote, durability AS "durability: Durability", max_depth, concurrency, rate_limit, rate_per_ms,
            per_key_concurrency, succeeded_retention_s, dead_retention_s, retry_max_attempts, retry_base_ms, retry_max_ms
        FROM queues
        WHERE ($1::text IS NULL OR name > $1)
        ORDER BY name
        LIMIT $2"#,
        after,
        limit,
    )
    .fetch_all(executor)
    .await
}

pub(in crate::jobs) async fn queue_names(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("SELECT name FROM queues").fetch_all(executor).await
}

/// The queues whose jobs are in Redis alone until they end.
pub(in crate::jobs) async fn volatile_queues(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("SELECT name FROM queues WHERE durability = 'redis'").fetch_all(executor).await
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

/// The same of jobs of many queues, by queue.
pub(in crate::jobs) async fn oldest_run_ats(executor: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<(String, OffsetDateTime)>> {
    let rows = sqlx::query!(
        r#"SELECT queue, min(run_at) AS "run_at!"
        FROM jobs
        WHERE id = ANY ($1) AND state = 'pending'
        GROUP BY queue"#,
        ids,
    );
    Ok(rows.fetch_all(executor).await?.into_iter().map(|row| (row.queue, row.run_at)).collect())
}

/// A queue as metrics tell of it.
pub(in crate::jobs) struct ToldQueue {
    pub(in crate::jobs) name: String,
    pub(in crate::jobs) paused: bool,
    pub(in crate::jobs) durability: Durability,
    pub(in crate::jobs) dead: i64,
}

/// Every queue, with at most `dead_max` of its dead jobs counted: those of operators first, then those that users brought into being, and
/// of each the oldest first.
pub(in crate::jobs) async fn told_queues(executor: impl PgExecutor<'_>, dead_max: i64) -> sqlx::Result<Vec<ToldQueue>> {
    sqlx::query_as!(
        ToldQueue,
        r#"SELECT name, paused, durability AS "durability: Durability", dead.n AS "dead!"
        FROM queues
        CROSS JOIN LATERAL (
            SELECT count(*) AS n
            FROM (SELECT FROM jobs_ended WHERE queue = queues.name AND state = 'dead' LIMIT $1) AS few
        ) AS dead
        ORDER BY created_by IS NOT NULL, created_at, name"#,
        dead_max,
    )
    .fetch_all(executor)
    .await
}

/// Writes every setting that a patch may change.
pub(in crate::jobs) async fn update_queue(executor: impl PgExecutor<'_>, queue: &QueueSettings) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE queues
        SET remote = $2, max_depth = $3, succeeded_retention_s = $4, dead_retention_s = $5, retry_max_attempts = $6,
            retry_base_ms = $7, retry_max_ms = $8, durability = $9, concurrency = $10, rate_limit = $11, rate_per_ms = $12,
            per_key_concurrency = $13, updated_at = now()
        WHERE name = $1",
        queue.name,
        queue.remote,
        queue.max_depth,
        queue.succeeded_retention_s,
        queue.dead_retention_s,
        queue.retry_max_attempts,
        queue.retry_base_ms,
        queue.retry_max_ms,
        queue.durability as Durability,
        queue.concurrency,
        queue.rate_limit,
        queue.rate_per_ms,
        queue.per_key_concurrency,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Whether there is such a queue, or dead jobs of one that was deleted.
pub(in crate::jobs) async fn has_row_or_dead(executor: impl PgExecutor<'_>, name: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM queues WHERE name = $1)
            OR EXISTS (SELECT FROM jobs_ended WHERE queue = $1 AND state = 'dead') AS "known!""#,
        name,
    )
    .fetch_one(executor)
    .await
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

/// What a queue holds, as far as it was counted.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::jobs) struct Counts {
    pub(in crate::jobs) live: LiveCounts,
    pub(in crate::jobs) dead: i64,
}

/// Counts at most `limit` live and as many dead jobs of each queue, in the order of `names`.
pub(in crate::jobs) async fn counts(
    executor: impl PgExecutor<'_>,
    names: &[&str],
    now: OffsetDateTime,
    limit: i64,
) -> sqlx::Result<Vec<Counts>> {
    let rows = sqlx::query!(
        r#"SELECT live.due AS "due!", live.scheduled AS "scheduled!", live.retrying AS "retrying!", dead.n AS "dead!"
        FROM unnest($1::text[]) WITH ORDINALITY AS asked (name, ordinal)
        CROSS JOIN LATERAL (
            SELECT
                count(*) FILTER (WHERE state = 'pending' AND run_at <= $2) AS due,
                count(*) FILTER (WHERE state = 'pending' AND run_at > $2 AND failures = 0) AS scheduled,
                count(*) FILTER (WHERE state = 'pending' AND run_at > $2 AND failures > 0) AS retrying
            FROM (SELECT state, run_at, failures FROM jobs WHERE queue = asked.name LIMIT $3) AS few
        ) AS live
        CROSS JOIN LATERAL (
            SELECT count(*) AS n
            FROM (SELECT FROM jobs_ended WHERE queue = asked.name AND state = 'dead' LIMIT $3) AS few
        ) AS dead
        ORDER BY asked.ordinal"#,
        names as _,
        now,
        limit,
    )
    .fetch_all(executor)
    .await?;
    let counts = rows
        .into_iter()
        .map(|row| Counts { live: LiveCounts { due: row.due, scheduled: row.scheduled, retrying: row.retrying }, dead: row.dead });
    Ok(counts.collect())
}
