//! SQL about the server itself.

use crate::Result;
use sqlx::{PgExecutor, PgPool, query, query_as, query_scalar};

pub(crate) async fn ping(pg: impl PgExecutor<'_>) -> Result<()> {
    query!("SELECT 1 AS one").fetch_one(pg).await?;
    Ok(())
}

/// Versions of the migrations that were applied; fails on a database that never saw one.
pub(super) async fn applied_versions(pg: impl PgExecutor<'_>) -> Result<Vec<i64>> {
    // Not a checked macro: the table belongs to the migrator and is absent while queries are prepared.
    Ok(query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(pg).await?)
}

/// `(server_version_num, max_connections, synchronous_commit)`.
pub(super) async fn server_facts(pg: &PgPool) -> Result<(i32, i32, String)> {
    let row = query!(
        r#"SELECT current_setting('server_version_num')::int AS "version!",
                  current_setting('max_connections')::int AS "max_connections!",
                  current_setting('synchronous_commit') AS "synchronous_commit!""#
    )
    .fetch_one(pg)
    .await?;
    Ok((row.version, row.max_connections, row.synchronous_commit))
}

/// `(max_connections, connections of clients now)`.
pub(super) async fn connections(pg: &PgPool) -> Result<(i32, i64)> {
    let row = query!(
        r#"SELECT current_setting('max_connections')::int AS "max_connections!",
                  (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS "connections!""#
    )
    .fetch_one(pg)
    .await?;
    Ok((row.max_connections, row.connections))
}

/// Seconds by which the server's clock is ahead of ours (`now_s`, seconds since 1970).
pub(super) async fn clock_ahead_s(pg: &PgPool, now_s: f64) -> Result<f64> {
    Ok(query_scalar!(r#"SELECT (extract(epoch FROM clock_timestamp())::float8 - $1) AS "ahead!""#, now_s).fetch_one(pg).await?)
}

/// How busy the server is, as any role may see.
pub(super) struct Activity {
    pub(super) active: i64,
    pub(super) idle: i64,
    pub(super) idle_in_transaction: i64,
    pub(super) other: i64,
    pub(super) lock_waits: i64,
    pub(super) longest_transaction_s: f64,
    pub(super) max_connections: i32,
    pub(super) database_bytes: i64,
    pub(super) replicas: i64,
    pub(super) replication_lag_s: f64,
}

pub(super) async fn activity(pg: &PgPool) -> Result<Activity> {
    let activity = query_as!(
        Activity,
        r#"SELECT active AS "active!", idle AS "idle!", idle_in_transaction AS "idle_in_transaction!",
                  known - active - idle - idle_in_transaction AS "other!", lock_waits AS "lock_waits!",
                  longest_transaction_s AS "longest_transaction_s!",
                  current_setting('max_connections')::int AS "max_connections!",
                  pg_database_size(current_database()) AS "database_bytes!",
                  replicas AS "replicas!", replication_lag_s AS "replication_lag_s!"
           FROM (
               SELECT count(*) AS known,
                      count(*) FILTER (WHERE state = 'active') AS active,
                      count(*) FILTER (WHERE state = 'idle') AS idle,
                      count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction,
                      count(*) FILTER (WHERE wait_event_type = 'Lock') AS lock_waits,
                      coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)::float8 AS longest_transaction_s
               FROM pg_stat_activity
               WHERE datname = current_database() AND backend_type = 'client backend'
           ) AS sessions
           CROSS JOIN (
               SELECT count(*) AS replicas, coalesce(max(extract(epoch FROM replay_lag)), 0)::float8 AS replication_lag_s
               FROM pg_stat_replication
           ) AS replication"#
    );
    Ok(activity.fetch_one(pg).await?)
}
