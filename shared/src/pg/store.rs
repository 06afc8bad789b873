//! SQL about the server itself.

use crate::Result;
use sqlx::{PgPool, query, query_scalar};

pub(crate) async fn ping(pg: &PgPool) -> Result<()> {
    query!("SELECT 1 AS one").fetch_one(pg).await?;
    Ok(())
}

/// Versions of the migrations that were applied; fails on a database that never saw one.
pub(super) async fn applied_versions(pg: &PgPool) -> Result<Vec<i64>> {
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
