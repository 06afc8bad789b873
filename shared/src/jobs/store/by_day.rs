//! The lookup of jobs when the day of their ids is known to have a partition: the hottest read there is.
//!
//! A statement over the partitioned table locks every partition, or is planned anew with each call: with 57 partitions
//! that is 7,300 look-ups/s where naming the partition gives 34,000 (docs/adr/0008). So this statement names it, and is the one that the
//! compiler does not check; a test holds its answers against those of the checked one.

use super::read::JobRow;
use crate::ids::JobId;
use sqlx::{AssertSqlSafe, PgExecutor};
use std::sync::Arc;
use uuid::Uuid;

/// The days that have a partition of ended jobs, as `YYYYMMDD`.
pub(in crate::jobs) async fn ended_days(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"SELECT substring(partition.relname FROM '^jobs_ended_(\d{8})$') AS "day!"
        FROM pg_inherits AS inherits
        JOIN pg_class AS partition ON partition.oid = inherits.inhrelid
        WHERE inherits.inhparent = 'jobs_ended'::regclass
            AND partition.relname ~ '^jobs_ended_\d{8}$'"#,
    )
    .fetch_all(executor)
    .await
}

/// The lookup among live jobs and those of one of [`ended_days`].
pub(in crate::jobs) fn lookup_sql(day: &str) -> Arc<str> {
    const SHARED: &str = "id, owner_id, kind, queue, state, priority, payload, run_at, expires_at, max_attempts, attempt, failures, \
        error_code, error_message, unique_key, tags, request_id, created_at";
    // The planner counts ten ids behind a SELECT, always. It counts those of `ANY ($1)`, finds a plan for one or two cheaper than one for all
    // and makes it anew each time: 84 µs of PostgreSQL in place of 21.
    const WANTED: &str = "ANY ((SELECT $1::uuid[])::uuid[])";
    assert!(day.bytes().all(|byte| byte.is_ascii_digit()), "days come from the names of our own partitions");
    format!(
        "SELECT {SHARED}, NULL::json AS result, NULL::text AS worker_id, NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at
        FROM jobs
        WHERE id = {WANTED}
        UNION ALL
        SELECT {SHARED}, result, worker_id, started_at, finished_at
        FROM jobs_ended_{day}
        WHERE id = {WANTED}"
    )
    .into()
}

/// Runs a [`lookup_sql`]; the error says so when its partition has been dropped.
pub(in crate::jobs) async fn jobs_by_lookup(executor: impl PgExecutor<'_>, sql: &Arc<str>, ids: &[JobId]) -> sqlx::Result<Vec<JobRow>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query_as(AssertSqlSafe(Arc::clone(sql))).bind(ids).fetch_all(executor).await
}
