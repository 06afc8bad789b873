//! Statements on `password_resets`.

use crate::{Result, ids::UserId};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

pub(in crate::accounts) async fn insert(
    db: impl PgExecutor<'_>,
    (id, user_id, secret_hash): (Uuid, UserId, &[u8]),
    (now, expires_at): (OffsetDateTime, OffsetDateTime),
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO password_resets (id, user_id, secret_hash, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5)",
        id,
        user_id.0,
        secret_hash,
        now,
        expires_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The stored hash and the user of a reset that is still good.
pub(in crate::accounts) async fn open(db: impl PgExecutor<'_>, id: Uuid, now: OffsetDateTime) -> Result<Option<(Vec<u8>, UserId)>> {
    let row = sqlx::query!(
        r#"SELECT r.secret_hash, r.user_id AS "user_id: UserId"
           FROM password_resets AS r
           JOIN users AS u ON u.id = r.user_id
           WHERE r.id = $1 AND r.expires_at > $2 AND NOT u.disabled"#,
        id,
        now,
    );
    Ok(row.fetch_optional(db).await?.map(|row| (row.secret_hash, row.user_id)))
}

/// Uses a reset up, and all others of its user with it; `false` when another request was first.
pub(in crate::accounts) async fn consume(tx: &mut PgConnection, id: Uuid, user_id: UserId) -> Result<bool> {
    let removed = sqlx::query_scalar!("DELETE FROM password_resets WHERE user_id = $1 RETURNING id", user_id.0);
    Ok(removed.fetch_all(tx).await?.contains(&id))
}
