//! Reading jobs: by id, by page, and the attempts that did not succeed.

use crate::{
    ids::{JobId, UserId},
    pg::ByValues,
};
use futures_util::Stream;
use serde_json::value::RawValue;
use sqlx::{PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

/// A row of `jobs_all`; `state` is as stored: pending and waiting while the job is to be done.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(in crate::jobs) struct JobRow {
    pub(in crate::jobs) id: JobId,
    pub(in crate::jobs) owner_id: UserId,
    pub(in crate::jobs) kind: String,
    pub(in crate::jobs) queue: String,
    pub(in crate::jobs) state: String,
    pub(in crate::jobs) priority: i16,
    pub(in crate::jobs) payload: Json<Box<RawValue>>,
    pub(in crate::jobs) run_at: OffsetDateTime,
    pub(in crate::jobs) expires_at: Option<OffsetDateTime>,
    pub(in crate::jobs) max_attempts: i32,
    pub(in crate::jobs) attempt: i32,
    pub(in crate::jobs) failures: i32,
    pub(in crate::jobs) error_code: Option<String>,
    pub(in crate::jobs) error_message: Option<String>,
    pub(in crate::jobs) unique_key: Option<String>,
    pub(in crate::jobs) tags: Vec<String>,
    pub(in crate::jobs) request_id: Option<String>,
    pub(in crate::jobs) created_at: OffsetDateTime,
    pub(in crate::jobs) result: Option<Json<Box<RawValue>>>,
    pub(in crate::jobs) worker_id: Option<String>,
    pub(in crate::jobs) started_at: Option<OffsetDateTime>,
    pub(in crate::jobs) finished_at: Option<OffsetDateTime>,
}

/// Which jobs a page holds; `None` filters nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::jobs) struct PageFilter<'a> {
    pub(in crate::jobs) owner_id: Option<UserId>,
    /// Ids below this one: the cursor, or the end of a time range.
    pub(in crate::jobs) below: Option<Uuid>,
    /// Ids from this one on: the start of a time range.
    pub(in crate::jobs) from: Option<Uuid>,
    pub(in crate::jobs) queue: Option<&'a str>,
    pub(in crate::jobs) kind: Option<&'a str>,
    pub(in crate::jobs) tag: Option<&'a str>,
    /// As stored.
    pub(in crate::jobs) state: Option<&'a str>,
    /// Whether `run_at` has come.
    pub(in crate::jobs) due: Option<bool>,
    pub(in crate::jobs) failed_before: Option<bool>,
}

/// The jobs wherever they are, also in partitions that nobody knows of.
pub(in crate::jobs) async fn jobs_by_ids(executor: impl PgExecutor<'_>, ids: &[JobId]) -> sqlx::Result<Vec<JobRow>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query_as!(
        JobRow,
        r#"SELECT
            id AS "id!: JobId", owner_id AS "owner_id!: UserId", kind AS "kind!", queue AS "queue!", state AS "state!",
            priority AS "priority!", payload AS "payload!: Json<Box<RawValue>>", run_at AS "run_at!", expires_at,
            max_attempts AS "max_attempts!", attempt AS "attempt!", failures AS "failures!", error_code, error_message,
            unique_key, tags AS "tags!", request_id, created_at AS "created_at!", result AS "result: Json<Box<RawValue>>",
            worker_id, started_at, finished_at
        FROM jobs_all
        WHERE id = ANY ($1)"#,
        &ids,
    )
    .fetch_all(executor)
    .await
}

/// Those of `ids` that have not ended.
pub(in crate::jobs) async fn live_jobs_by_ids(executor: impl PgExecutor<'_>, ids: &[JobId]) -> sqlx::Result<Vec<JobRow>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query_as!(
        JobRow,
        r#"SELECT
            id AS "id: JobId", owner_id AS "owner_id: UserId", kind, queue, state, priority, payload AS "payload: Json<Box<RawValue>>",
            run_at, expires_at, max_attempts, attempt, failures, error_code, error_message, unique_key, tags, request_id, created_at,
            NULL::json AS "result: Json<Box<RawValue>>", NULL::text AS worker_id, NULL::timestamptz AS started_at,
            NULL::timestamptz AS finished_at
        FROM jobs
        WHERE id = ANY ($1)"#,
        &ids,
    )
    .fetch_all(executor)
    .await
}

/// Jobs from the newest to the oldest, as they come from the server: those of the filter's owner, range, queue and state.
pub(in crate::jobs) fn jobs_page<'a>(
    executor: ByValues<impl PgExecutor<'a> + 'a>,
    filter: &PageFilter<'_>,
    limit: i64,
) -> impl Stream<Item = sqlx::Result<JobRow>> + 'a {
    sqlx::query_as!(
        JobRow,
        r#"SELECT
            id AS "id!: JobId", owner_id AS "owner_id!: UserId", kind AS "kind!", queue AS "queue!", state AS "state!",
            priority AS "priority!", payload AS "payload!: Json<Box<RawValue>>", run_at AS "run_at!", expires_at,
            max_attempts AS "max_attempts!", attempt AS "attempt!", failures AS "failures!", error_code, error_message,
            unique_key, tags AS "tags!", request_id, created_at AS "created_at!", result AS "result: Json<Box<RawValue>>",
            worker_id, started_at, finished_at
        FROM jobs_all
        WHERE ($1::uuid IS NULL OR owner_id = $1)
            AND ($2::uuid IS NULL OR id < $2)
            AND ($3::uuid IS NULL OR id >= $3)
            AND ($4::text IS NULL OR queue = $4)
            AND ($5::text IS NULL OR state = $5)
        ORDER BY id DESC
        LIMIT $6"#,
        filter.owner_id as Option<UserId>,
        filter.below,
        filter.from,
        filter.queue,
        filter.state,
        limit,
    )
    .fetch(executor)
}

/// Those of `ids`, of which there is one at least, that the filter lets through, as [`jobs_page`] has them.
///
/// Each is looked up: with `id = ANY (…)` all jobs from the newest on could be read until those asked for have come by.
pub(in crate::jobs) fn named_jobs_page<'a>(
    executor: ByValues<impl PgExecutor<'a> + 'a>,
    ids: &[Uuid],
    filter: &PageFilter<'_>,
    now: OffsetDateTime,
    limit: i64,
) -> impl Stream<Item = sqlx::Result<JobRow>> + 'a {
    sqlx::query_as!(
        JobRow,
        r#"SELECT
            job.id AS "id!: JobId", job.owner_id AS "owner_id!: UserId", job.kind AS "kind!", job.queue AS "queue!",
            job.state AS "state!", job.priority AS "priority!", job.payload AS "payload!: Json<Box<RawValue>>",
            job.run_at AS "run_at!", job.expires_at, job.max_attempts AS "max_attempts!", job.attempt AS "attempt!",
            job.failures AS "failures!", job.error_code, job.error_message, job.unique_key, job.tags AS "tags!", job.request_id,
            job.created_at AS "created_at!", job.result AS "result: Json<Box<RawValue>>", job.worker_id, job.started_at,
            job.finished_at
        FROM unnest($1::uuid[]) AS wanted (id)
        CROSS JOIN LATERAL (
            SELECT *
            FROM jobs_all
            WHERE jobs_all.id = wanted.id
                -- Says no more, but to the planner, which then leaves days out.
                AND jobs_all.id >= $2
                AND jobs_all.id <= $3
            -- A join that is planned as one could read everything.
            OFFSET 0
        ) AS job
        WHERE ($4::uuid IS NULL OR job.owner_id = $4)
            AND ($5::text IS NULL OR job.queue = $5)
            AND ($6::text IS NULL OR job.kind = $6)
            AND ($7::text IS NULL OR $7 = ANY (job.tags))
            AND ($8::text IS NULL OR job.state = $8)
            AND ($9::boolean IS NULL OR (job.run_at <= $10) = $9)
            AND ($11::boolean IS NULL OR (job.failures > 0) = $11)
        ORDER BY job.id DESC
        LIMIT $12"#,
        ids,
        ids.iter().min(),
        ids.iter().max(),
        filter.owner_id as Option<UserId>,
        filter.queue,
        filter.kind,
        filter.tag,
        filter.state,
        filter.due,
        now,
        filter.failed_before,
        limit,
    )
    .fetch(executor)
}

/// What a bounded look at the jobs of a page found.
#[derive(Debug)]
pub(in crate::jobs) struct Scan {
    pub(in crate::jobs) n_scanned: i64,
    /// The oldest job that was looked at.
    pub(in crate::jobs) last: Option<Uuid>,
    /// Those that match.
    pub(in crate::jobs) ids: Vec<Uuid>,
}

/// Looks at the newest `scan_max` jobs that the filter's indexed parts let through, and returns up to `limit` of those that have
/// its kind and tag, what it says of their time and failures, and of an owner's its queue, which no index knows.
///
/// An index knows of states those of jobs that ended without success; what is asked for of another is sought `among` all states
/// of its table.
pub(in crate::jobs) async fn scan(
    executor: ByValues<impl PgExecutor<'_>>,
    filter: &PageFilter<'_>,
    among: Option<&[&str]>,
    now: OffsetDateTime,
    (scan_max, limit): (i64, i64),
) -> sqlx::Result<Scan> {
    let among = among.map(|among| among.iter().map(|state| (*state).to_owned()).collect::<Vec<_>>());
    sqlx::query_as!(
        Scan,
        r#"WITH scanned AS MATERIALIZED (
            SELECT
                id,
                ($4::text IS NULL OR queue = $4)
                    AND ($5::text IS NULL OR kind = $5)
                    AND ($6::text IS NULL OR $6 = ANY (tags))
                    AND ($7::text IS NULL OR state = $7)
                    AND ($8::boolean IS NULL OR (run_at <= $9) = $8)
                    AND ($10::boolean IS NULL OR (failures > 0) = $10) AS is_match
            FROM jobs_all
            WHERE ($1::uuid IS NULL OR owner_id = $1)
                AND ($2::uuid IS NULL OR id < $2)
                AND ($3::uuid IS NULL OR id >= $3)
                -- Of everybody's jobs an index knows the queue.
                AND ($1::uuid IS NOT NULL OR $4::text IS NULL OR queue = $4)
                AND ($11::text[] IS NOT NULL OR $7::text IS NULL OR state = $7)
                -- Leaves a table out.
                AND ($11::text[] IS NULL OR state = ANY ($11))
            ORDER BY id DESC
            LIMIT $12
        )
        SELECT
            (SELECT count(*) FROM scanned) AS "n_scanned!",
            (SELECT id FROM scanned ORDER BY id LIMIT 1) AS last,
            ARRAY (SELECT id FROM scanned WHERE is_match ORDER BY id DESC LIMIT $13) AS "ids!""#,
        filter.owner_id as Option<UserId>,
        filter.below,
        filter.from,
        filter.queue,
        filter.kind,
        filter.tag,
        filter.state,
        filter.due,
        now,
        filter.failed_before,
        among.as_deref() as Option<&[String]>,
        scan_max,
        limit,
    )
    .fetch_one(executor)
    .await
}

/// [`scan`] of one queue's jobs in whatever state, `below` and from `from` on.
///
/// No index has a queue's ended jobs in the order of their ids, but one has those of each state. By comparing rows the statement
/// leaves no other way: with `queue = …` all jobs could be searched for the few of this queue, newest first.
pub(in crate::jobs) async fn scan_queue(
    executor: ByValues<impl PgExecutor<'_>>,
    queue: &str,
    filter: &PageFilter<'_>,
    (scan_max, limit): (i64, i64),
) -> sqlx::Result<Scan> {
    sqlx::query_as!(
        Scan,
        r#"WITH scanned AS MATERIALIZED (
            SELECT id, is_match
            FROM (
                (
                    SELECT id, ($4::text IS NULL OR kind = $4) AND ($5::text IS NULL OR $5 = ANY (tags)) AS is_match
                    FROM jobs
                    WHERE queue IS NOT NULL
                        AND (queue, id) < ($1, $2)
                        AND (queue, id) >= ($1, $3)
                    ORDER BY queue DESC, id DESC
                    LIMIT $6
                )
                UNION ALL
                SELECT ended.id, ended.is_match
                FROM unnest(ARRAY['succeeded', 'dead', 'cancelled', 'expired']) AS each (state)
                CROSS JOIN LATERAL (
                    SELECT id, ($4::text IS NULL OR kind = $4) AND ($5::text IS NULL OR $5 = ANY (tags)) AS is_match
                    FROM jobs_ended
                    WHERE queue IS NOT NULL
                        AND (queue, state, id) < ($1, each.state, $2)
                        AND (queue, state, id) >= ($1, each.state, $3)
                        -- Says no more, but to the planner, which then leaves days out.
                        AND id < $2
                        AND id >= $3
                    ORDER BY queue DESC, state DESC, id DESC
                    LIMIT $6
                ) AS ended
            ) AS live_and_ended
            ORDER BY id DESC
            LIMIT $6
        )
        SELECT
            (SELECT count(*) FROM scanned) AS "n_scanned!",
            (SELECT id FROM scanned ORDER BY id LIMIT 1) AS last,
            ARRAY (SELECT id FROM scanned WHERE is_match ORDER BY id DESC LIMIT $7) AS "ids!""#,
        queue,
        filter.below.unwrap_or(Uuid::max()),
        filter.from.unwrap_or(Uuid::nil()),
        filter.kind,
        filter.tag,
        scan_max,
        limit,
    )
    .fetch_one(executor)
    .await
}

/// A row of `job_attempts`.
#[derive(Debug)]
pub(in crate::jobs) struct AttemptRow {
    pub(in crate::jobs) attempt: i32,
    pub(in crate::jobs) worker_id: Option<String>,
    pub(in crate::jobs) outcome: String,
    pub(in crate::jobs) error_code: Option<String>,
    pub(in crate::jobs) error_message: Option<String>,
    pub(in crate::jobs) started_at: Option<OffsetDateTime>,
    pub(in crate::jobs) finished_at: OffsetDateTime,
}

pub(in crate::jobs) async fn attempts_page(
    executor: impl PgExecutor<'_>,
    job_id: JobId,
    below: Option<i32>,
    limit: i64,
) -> sqlx::Result<Vec<AttemptRow>> {
    sqlx::query_as!(
        AttemptRow,
        "SELECT attempt, worker_id, outcome, error_code, error_message, started_at, finished_at
        FROM job_attempts
        WHERE job_id = $1
            AND ($2::integer IS NULL OR attempt < $2)
        ORDER BY attempt DESC
        LIMIT $3",
        job_id.0,
        below,
        limit,
    )
    .fetch_all(executor)
    .await
}
