//! The engine's SQL: the guarded statement that writes every conclusion, and the reads that leases are repaired from.

mod conclude;
pub(super) mod hurry;
pub(super) mod parking;
pub(super) mod upkeep;
mod volatile;

pub(super) use conclude::{Successes, Written, conclude, succeed};
pub(super) use volatile::{conclude_volatile, last_attempts};

use super::{
    Limits, Nonce,
    copy::{Enqueue, Standing, inline},
};
use crate::{
    Result,
    ids::{JobId, UserId},
    jobs::{JobKind, QueueName, RetryPolicy, queues::Rate},
};
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgExecutor, PgPool, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

/// What a row says of its job's deliveries.
#[derive(Debug, Clone)]
pub(super) struct RowStanding {
    pub(super) id: JobId,
    /// `pending`, `waiting`, or the state it ended in.
    pub(super) state: String,
    pub(super) standing: Standing,
    pub(super) nonce: Option<Nonce>,
    pub(super) run_at: OffsetDateTime,
    pub(super) retry: RetryPolicy,
    pub(super) is_cancel_requested: bool,
    pub(super) timeout_ms: Option<i32>,
}

/// The rows of `ids`, live or ended; those that are nowhere are left out. Reads the primary.
pub(super) async fn standings(pg: impl PgExecutor<'_>, ids: &[JobId]) -> sqlx::Result<Vec<RowStanding>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"SELECT id AS "id!: JobId", state AS "state!", priority AS "priority!", attempt AS "attempt!", failures AS "failures!",
                  snoozes AS "snoozes!", crashes AS "crashes!", nonce, run_at AS "run_at!", max_attempts AS "max_attempts!",
                  retry_base_ms AS "retry_base_ms!", retry_max_ms AS "retry_max_ms!", cancel_requested_at, timeout_ms
        FROM (
            SELECT id, state, priority, attempt, failures, snoozes, crashes, nonce, run_at, max_attempts, retry_base_ms, retry_max_ms,
                   cancel_requested_at, timeout_ms
            FROM jobs
            WHERE id = ANY($1)
            UNION ALL
            SELECT id, state, priority, attempt, failures, snoozes, crashes, nonce, run_at, max_attempts, retry_base_ms, retry_max_ms,
                   cancel_requested_at, timeout_ms
            FROM jobs_ended
            WHERE id = ANY($1)
        ) AS both_tables"#,
        &ids,
    )
    .fetch_all(pg)
    .await?;
    let rows = rows.into_iter().map(|row| RowStanding {
        id: row.id,
        state: row.state,
        standing: Standing {
            priority: row.priority,
            attempt: row.attempt,
            failures: row.failures,
            snoozes: row.snoozes,
            returns: 0,
            crashes: row.crashes,
        },
        nonce: row.nonce.map(Nonce),
        run_at: row.run_at,
        retry: RetryPolicy { max_attempts: row.max_attempts, base_ms: row.retry_base_ms, max_ms: row.retry_max_ms },
        is_cancel_requested: row.cancel_requested_at.is_some(),
        timeout_ms: row.timeout_ms,
    });
    Ok(rows.collect())
}

/// The payloads of pending rows, and their attempt: what a worker needs of a job whose copy does not carry everything.
pub(super) async fn payloads(pg: &PgPool, ids: &[JobId]) -> sqlx::Result<Vec<(JobId, i32, Box<RawValue>)>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"SELECT id AS "id: JobId", attempt, payload AS "payload: Json<Box<RawValue>>"
        FROM jobs
        WHERE id = ANY($1)
          AND state = 'pending'"#,
        &ids,
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.attempt, row.payload.0)).collect())
}

/// A pending row by its place in the scan.
#[derive(Debug, Clone)]
pub(super) struct PendingRow {
    pub(super) id: JobId,
    pub(super) queue: String,
    pub(super) attempt: i32,
    pub(super) is_cancel_requested: bool,
    pub(super) is_expired: bool,
}

/// One page of pending rows of queues on PostgreSQL, in the order of their ids, from `after` up to `until`.
pub(super) async fn pending_page(pg: &PgPool, after: Uuid, until: Uuid, now: OffsetDateTime, limit: i64) -> Result<Vec<PendingRow>> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id: JobId", queue, attempt, cancel_requested_at, expires_at
        FROM jobs
        WHERE id > $1
          AND id <= $2
          AND state = 'pending'
        ORDER BY id
        LIMIT $3"#,
        after,
        until,
        limit,
    )
    .fetch_all(pg)
    .await?;
    let rows = rows.into_iter().map(|row| PendingRow {
        id: row.id,
        queue: row.queue,
        attempt: row.attempt,
        is_cancel_requested: row.cancel_requested_at.is_some(),
        is_expired: row.expires_at.is_some_and(|at| at <= now),
    });
    Ok(rows.collect())
}

/// The ids of one queue's pending rows from `after` on: those due by `now`, or (`due` false) the others.
pub(super) async fn pending_ids(
    pg: &PgPool,
    queue: &QueueName,
    after: Uuid,
    now: OffsetDateTime,
    is_due: bool,
    limit: i64,
) -> Result<Vec<JobId>> {
    let rows = sqlx::query_scalar!(
        r#"SELECT id AS "id: JobId"
        FROM jobs
        WHERE queue = $1
          AND id > $2
          AND state = 'pending'
          AND (run_at <= $3) = $4
        ORDER BY id
        LIMIT $5"#,
        queue.as_str(),
        after,
        now,
        is_due,
        limit,
    )
    .fetch_all(pg)
    .await?;
    Ok(rows)
}

/// What Redis needs of those of `ids` that are pending.
pub(super) async fn copies(pg: &PgPool, ids: &[JobId]) -> Result<Vec<(String, Enqueue)>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"SELECT id AS "id: JobId", owner_id AS "owner_id: UserId", kind, queue, priority, run_at, expires_at, timeout_ms, max_attempts,
                  retry_base_ms, retry_max_ms, attempt, failures, snoozes, crashes, payload AS "payload: Json<Box<RawValue>>", request_id,
                  traceparent, concurrency_key
        FROM jobs
        WHERE id = ANY($1)
          AND state = 'pending'"#,
        &ids,
    )
    .fetch_all(pg)
    .await?;
    let copies = rows.into_iter().map(|row| {
        let copy = Enqueue {
            id: row.id,
            owner_id: row.owner_id,
            kind: JobKind::new(&row.kind)?,
            standing: Standing {
                priority: row.priority,
                attempt: row.attempt,
                failures: row.failures,
                snoozes: row.snoozes,
                returns: 0,
                crashes: row.crashes,
            },
            run_at: row.run_at,
            expires_at: row.expires_at,
            timeout_ms: row.timeout_ms,
            retry: RetryPolicy { max_attempts: row.max_attempts, base_ms: row.retry_base_ms, max_ms: row.retry_max_ms },
            payload: inline(&row.payload.0),
            request_id: row.request_id,
            traceparent: row.traceparent,
            verify: true,
            volatile: None,
            concurrency_key: row.concurrency_key,
        };
        Ok((row.queue, copy))
    });
    copies.collect()
}

/// Those of `ids` that are pending.
pub(super) async fn pending_among(pg: &PgPool, ids: &[JobId]) -> Result<Vec<JobId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query_scalar!(
        r#"SELECT id AS "id: JobId"
        FROM jobs
        WHERE id = ANY($1)
          AND state = 'pending'"#,
        &ids,
    )
    .fetch_all(pg)
    .await?;
    Ok(rows)
}

/// A queue as workers and the maintenance see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRow {
    pub name: QueueName,
    pub is_paused: bool,
    pub is_remote: bool,
    pub limits: Limits,
    pub created_at: OffsetDateTime,
}

pub(super) async fn queues(pg: &PgPool) -> Result<Vec<QueueRow>> {
    let rows = sqlx::query!(
        "SELECT name, paused, remote, concurrency, rate_limit, rate_per_ms, per_key_concurrency, created_at
        FROM queues
        ORDER BY name"
    );
    let queues = rows.fetch_all(pg).await?.into_iter().map(|row| {
        let rate = row.rate_limit.zip(row.rate_per_ms).map(|(limit, per_ms)| Rate { limit, per_ms });
        let limits = Limits { concurrency: row.concurrency, rate, per_key: row.per_key_concurrency };
        let name = QueueName::new(&row.name)?;
        Ok(QueueRow { name, is_paused: row.paused, is_remote: row.remote, limits, created_at: row.created_at })
    });
    queues.collect()
}

/// Takes the lock of the maintenance for this session, if nobody has it.
pub(super) async fn try_lead(connection: &mut PgConnection) -> sqlx::Result<bool> {
    // The number only has to differ from other advisory locks of this database.
    sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(7205760) AS "is_ours!""#).fetch_one(connection).await
}
