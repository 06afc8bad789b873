//! Removing what nothing asks for any more, some rows at a time.

use crate::Result;
use sqlx::PgExecutor;
use time::OffsetDateTime;

/// Sessions that ended before `before`, expired or revoked.
pub(in crate::accounts) async fn sessions(db: impl PgExecutor<'_>, before: OffsetDateTime, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM sessions
         WHERE id IN (
             SELECT id FROM sessions WHERE expires_at < $1 OR revoked_at < $1 LIMIT $2
         )",
        before,
        limit,
    );
    Ok(done.execute(db).await?.rows_affected())
}

pub(in crate::accounts) async fn revocations(db: impl PgExecutor<'_>, before: OffsetDateTime, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM revocations
         WHERE id IN (
             SELECT id FROM revocations WHERE expires_at < $1 LIMIT $2
         )",
        before,
        limit,
    );
    Ok(done.execute(db).await?.rows_affected())
}

pub(in crate::accounts) async fn password_resets(db: impl PgExecutor<'_>, before: OffsetDateTime, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM password_resets
         WHERE id IN (
             SELECT id FROM password_resets WHERE expires_at < $1 LIMIT $2
         )",
        before,
        limit,
    );
    Ok(done.execute(db).await?.rows_affected())
}

/// Keys that were revoked before `before`; unlike an expired key, their owner no longer sees them.
pub(in crate::accounts) async fn api_keys(db: impl PgExecutor<'_>, before: OffsetDateTime, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM api_keys
         WHERE id IN (
             SELECT id FROM api_keys WHERE revoked_at < $1 LIMIT $2
         )",
        before,
        limit,
    );
    Ok(done.execute(db).await?.rows_affected())
}
