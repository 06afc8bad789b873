//! Deleting an account, and removing what it had, some rows at a time. Rows that somebody else removes in this moment are left to them.

use crate::{Result, ids::UserId};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

/// From here on it is nobody's account: it cannot sign in, its address is free, and no query of users finds it.
pub(in crate::accounts) async fn delete(tx: &mut PgConnection, id: UserId, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "UPDATE users
         SET email = 'deleted:' || id, display_name = NULL, password_hash = '', disabled = true, token_version = token_version + 1,
             deleted_at = $2, updated_at = $2
         WHERE id = $1",
        id.0,
        now,
    )
    .execute(&mut *tx)
    .await?;
    // What waits for them is not sent any more. There are few, by `ENDPOINTS_PER_USER_MAX`.
    sqlx::query!("DELETE FROM endpoints WHERE owner_id = $1", id.0).execute(tx).await?;
    Ok(())
}

/// Accounts that were deleted and are not removed yet, after `after`.
pub(in crate::accounts) async fn deleted(pg: &PgPool, after: Uuid, limit: i64) -> Result<Vec<UserId>> {
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id: UserId"
           FROM users
           WHERE deleted_at IS NOT NULL AND id > $1
           ORDER BY id
           LIMIT $2"#,
        after,
        limit,
    );
    Ok(ids.fetch_all(pg).await?)
}

/// What else an account has, in the order in which it goes: what others cascade to is gone before them.
#[derive(Debug, Clone, Copy)]
pub(in crate::accounts) enum Part {
    ScheduleRuns,
    Schedules,
    Tracks,
    /// Before the files, each of which would be taken off it by itself.
    FileUsage,
    Files,
    Sessions,
    ApiKeys,
    PasswordResets,
}

impl Part {
    pub(in crate::accounts) const ALL: [Self; 8] = [
        Self::ScheduleRuns,
        Self::Schedules,
        Self::Tracks,
        Self::FileUsage,
        Self::Files,
        Self::Sessions,
        Self::ApiKeys,
        Self::PasswordResets,
    ];
}

/// Removes at most `limit` rows; returns how many. Triggers note which tracks' points and which files' objects are to go after them.
pub(in crate::accounts) async fn part(pg: &PgPool, part: Part, id: UserId, limit: i64) -> Result<u64> {
    let done = match part {
        Part::ScheduleRuns => sqlx::query!(
            "DELETE FROM schedule_runs
             WHERE (schedule_id, fire_at) IN (
                 SELECT schedule_id, fire_at
                 FROM schedule_runs
                 WHERE schedule_id IN (SELECT id FROM schedules WHERE owner_id = $1)
                 LIMIT $2
                 FOR UPDATE OF schedule_runs SKIP LOCKED
             )",
            id.0,
            limit,
        ),
        Part::Schedules => sqlx::query!(
            "DELETE FROM schedules
             WHERE id = ANY (ARRAY(SELECT id FROM schedules WHERE owner_id = $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))",
            id.0,
            limit,
        ),
        Part::Tracks => sqlx::query!(
            "DELETE FROM tracks
             WHERE id = ANY (ARRAY(SELECT id FROM tracks WHERE owner_id = $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))",
            id.0,
            limit,
        ),
        Part::FileUsage => sqlx::query!("DELETE FROM file_usage WHERE owner_id = $1", id.0),
        Part::Files => sqlx::query!(
            "DELETE FROM files
             WHERE id = ANY (ARRAY(SELECT id FROM files WHERE owner_id = $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))",
            id.0,
            limit,
        ),
        Part::Sessions => sqlx::query!(
            "DELETE FROM sessions
             WHERE id = ANY (ARRAY(SELECT id FROM sessions WHERE user_id = $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))",
            id.0,
            limit,
        ),
        Part::ApiKeys => sqlx::query!(
            "DELETE FROM api_keys
             WHERE id = ANY (ARRAY(SELECT id FROM api_keys WHERE user_id = $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))",
            id.0,
            limit,
        ),
        Part::PasswordResets => sqlx::query!(
            "DELETE FROM password_resets
             WHERE id = ANY (ARRAY(SELECT id FROM password_resets WHERE user_id = $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
            id.0,
            limit,
        ),
    };
    Ok(done.execute(pg).await?.rows_affected())
}

/// Removes the row of a deleted account, and with it what a request that was under way wrote meanwhile.
pub(in crate::accounts) async fn user(pg: &PgPool, id: UserId) -> Result<()> {
    sqlx::query!("DELETE FROM users WHERE id = $1 AND deleted_at IS NOT NULL", id.0).execute(pg).await?;
    Ok(())
}
