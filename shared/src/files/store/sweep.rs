//! Statements of who cleans up behind others.

use crate::{Result, ids::FileId};
use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// An object whose row is gone.
#[derive(Debug, Clone)]
pub(in crate::files) struct Removed {
    pub(in crate::files) file_id: FileId,
    pub(in crate::files) upload_id: Option<String>,
    pub(in crate::files) was_stored: bool,
    pub(in crate::files) is_first_look: bool,
}

/// Gives up files that nobody finished; their notes say what to remove.
pub(in crate::files) async fn delete_unfinished(db: impl PgExecutor<'_>, before: OffsetDateTime, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM files
        WHERE id IN (SELECT id FROM files WHERE stored_at IS NULL AND created_at < $1 ORDER BY created_at LIMIT $2)
          AND stored_at IS NULL",
        before,
        limit,
    );
    Ok(done.execute(db).await?.rows_affected())
}

/// Objects to be removed now, those that were due first.
pub(in crate::files) async fn removed(db: impl PgExecutor<'_>, now: OffsetDateTime, limit: i64) -> Result<Vec<Removed>> {
    let removed = sqlx::query_as!(
        Removed,
        r#"SELECT file_id AS "file_id: FileId", upload_id, was_stored, due_at = removed_at AS "is_first_look!"
        FROM files_removed
        WHERE due_at <= $1
        ORDER BY due_at
        LIMIT $2"#,
        now,
        limit,
    );
    Ok(removed.fetch_all(db).await?)
}

pub(in crate::files) async fn forget(db: impl PgExecutor<'_>, id: FileId) -> Result<()> {
    sqlx::query!("DELETE FROM files_removed WHERE file_id = $1", id.0).execute(db).await?;
    Ok(())
}

pub(in crate::files) async fn postpone(db: impl PgExecutor<'_>, id: FileId, due_at: OffsetDateTime) -> Result<()> {
    sqlx::query!("UPDATE files_removed SET due_at = $2 WHERE file_id = $1", id.0, due_at).execute(db).await?;
    Ok(())
}

/// Takes the comparison of store and table upon itself, if the last one began before `before`.
pub(in crate::files) async fn begin_scan(db: impl PgExecutor<'_>, before: OffsetDateTime, now: OffsetDateTime) -> Result<bool> {
    let done = sqlx::query!("UPDATE file_store SET scanned_at = $2 WHERE scanned_at <= $1", before, now);
    Ok(done.execute(db).await?.rows_affected() == 1)
}

/// Finished files from `from` to `to`, without the latter, that were stored before `before`.
pub(in crate::files) async fn stored_between(
    db: impl PgExecutor<'_>,
    from: Uuid,
    to: Option<Uuid>,
    before: OffsetDateTime,
    limit: i64,
) -> Result<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        "SELECT id
        FROM files
        WHERE id >= $1 AND ($2::uuid IS NULL OR id < $2) AND stored_at < $3
        ORDER BY id
        LIMIT $4",
        from,
        to,
        before,
        limit,
    );
    Ok(ids.fetch_all(db).await?)
}

/// Of files from `from` to `to`: those in `ids` are missing, the others are not.
pub(in crate::files) async fn mark_missing(
    db: impl PgExecutor<'_>,
    from: Uuid,
    to: Option<Uuid>,
    ids: &[Uuid],
    now: OffsetDateTime,
) -> Result<u64> {
    let done = sqlx::query!(
        "UPDATE files
        SET missing_since = CASE WHEN id = ANY($3) THEN $4::timestamptz END
        WHERE id >= $1
          AND ($2::uuid IS NULL OR id < $2)
          AND (missing_since IS NOT NULL) <> (id = ANY($3))",
        from,
        to,
        ids,
        now,
    );
    Ok(done.execute(db).await?.rows_affected())
}

pub(in crate::files) async fn count_missing(db: impl PgExecutor<'_>) -> Result<i64> {
    Ok(sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM files WHERE missing_since IS NOT NULL"#).fetch_one(db).await?)
}
