//! Statements on `api_keys`.

use crate::{
    Result, Role,
    ids::{ApiKeyId, UserId},
    page::PageRequest,
    pg::ByValues,
};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

pub(in crate::accounts) struct ApiKeyRow {
    pub id: ApiKeyId,
    pub name: String,
    pub prefix: String,
    pub scopes: Vec<String>,
    pub expires_at: Option<OffsetDateTime>,
    pub last_used_at: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
}

pub(in crate::accounts) async fn insert(tx: &mut PgConnection, (user_id, secret_hash): (UserId, &[u8]), key: &ApiKeyRow) -> Result<()> {
    sqlx::query!(
        "INSERT INTO api_keys (id, user_id, name, prefix, secret_hash, scopes, expires_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        key.id.0,
        user_id.0,
        key.name,
        key.prefix,
        secret_hash,
        &key.scopes,
        key.expires_at,
        key.created_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// How many keys `user_id` has; exact while their row is locked.
pub(in crate::accounts) async fn count(tx: &mut PgConnection, user_id: UserId) -> Result<i64> {
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM api_keys WHERE user_id = $1 AND revoked_at IS NULL"#, user_id.0);
    Ok(count.fetch_one(tx).await?)
}

/// A key with what its user may, to judge a presented one by.
pub(in crate::accounts) struct KnownKey {
    pub secret_hash: Vec<u8>,
    pub scopes: Vec<String>,
    pub expires_at: Option<OffsetDateTime>,
    pub user_id: UserId,
    pub role: Role,
    pub token_version: i32,
}

/// `None` when it is revoked, or its user disabled.
pub(in crate::accounts) async fn usable(db: impl PgExecutor<'_>, id: ApiKeyId) -> Result<Option<KnownKey>> {
    let row = sqlx::query_as!(
        KnownKey,
        r#"SELECT k.secret_hash, k.scopes, k.expires_at, u.id AS "user_id: UserId", u.role AS "role: Role", u.token_version
           FROM api_keys AS k
           JOIN users AS u ON u.id = k.user_id
           WHERE k.id = $1 AND k.revoked_at IS NULL AND NOT u.disabled"#,
        id.0,
    );
    Ok(row.fetch_optional(db).await?)
}

/// Notes that the keys were used, at most once a minute each.
pub(in crate::accounts) async fn touch(db: impl PgExecutor<'_>, ids: &[Uuid], now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "UPDATE api_keys
         SET last_used_at = $2
         WHERE id = ANY($1) AND (last_used_at IS NULL OR last_used_at < $2::timestamptz - interval '1 minute')",
        ids,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// `false` when it is not the user's, or already gone.
pub(in crate::accounts) async fn revoke(tx: &mut PgConnection, (user_id, id): (UserId, ApiKeyId), now: OffsetDateTime) -> Result<bool> {
    let done =
        sqlx::query!("UPDATE api_keys SET revoked_at = $3 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL", id.0, user_id.0, now);
    Ok(done.execute(tx).await?.rows_affected() == 1)
}

pub(in crate::accounts) async fn page(db: ByValues<impl PgExecutor<'_>>, user_id: UserId, page: &PageRequest) -> Result<Vec<ApiKeyRow>> {
    let rows = sqlx::query_as!(
        ApiKeyRow,
        r#"SELECT id AS "id: ApiKeyId", name, prefix, scopes, expires_at, last_used_at, created_at
           FROM api_keys
           WHERE user_id = $1 AND revoked_at IS NULL AND ($2::uuid IS NULL OR id < $2)
           ORDER BY id DESC
           LIMIT $3"#,
        user_id.0,
        page.before,
        page.fetch(),
    );
    Ok(rows.fetch_all(db).await?)
}
