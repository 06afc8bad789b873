//! Statements on `users`. Those that were deleted and are being removed are found by [`removal`](super::removal) alone.

use crate::{Result, Role, accounts::User, ids::UserId, page::PageRequest, pg::ByValues};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

/// A whole row; the password's hash never leaves the operations.
#[derive(Clone)]
pub(in crate::accounts) struct UserRow {
    pub id: UserId,
    pub email: String,
    pub display_name: Option<String>,
    pub password_hash: String,
    pub role: Role,
    pub disabled: bool,
    pub token_version: i32,
    pub created_at: OffsetDateTime,
}

impl UserRow {
    pub(in crate::accounts) fn into_user(self) -> User {
        User {
            id: self.id,
            email: self.email,
            display_name: self.display_name,
            role: self.role,
            disabled: self.disabled,
            created_at: self.created_at,
        }
    }
}

pub(in crate::accounts) async fn by_id(db: impl PgExecutor<'_>, id: UserId) -> Result<Option<UserRow>> {
    let row = sqlx::query_as!(
        UserRow,
        r#"SELECT id AS "id: UserId", email, display_name, password_hash, role AS "role: Role", disabled, token_version, created_at
           FROM users
           WHERE id = $1 AND deleted_at IS NULL"#,
        id.0,
    );
    Ok(row.fetch_optional(db).await?)
}

/// `email` in the form of `rules::email`.
pub(in crate::accounts) async fn by_email(db: impl PgExecutor<'_>, email: &str) -> Result<Option<UserRow>> {
    let row = sqlx::query_as!(
        UserRow,
        r#"SELECT id AS "id: UserId", email, display_name, password_hash, role AS "role: Role", disabled, token_version, created_at
           FROM users
           WHERE lower(email) = lower($1) AND deleted_at IS NULL"#,
        email,
    );
    Ok(row.fetch_optional(db).await?)
}

/// Reads the row and keeps others from changing it until the transaction ends.
pub(in crate::accounts) async fn lock(tx: &mut PgConnection, id: UserId) -> Result<Option<UserRow>> {
    let row = sqlx::query_as!(
        UserRow,
        r#"SELECT id AS "id: UserId", email, display_name, password_hash, role AS "role: Role", disabled, token_version, created_at
           FROM users
           WHERE id = $1 AND deleted_at IS NULL
           FOR NO KEY UPDATE"#,
        id.0,
    );
    Ok(row.fetch_optional(tx).await?)
}

/// The administrators who can sign in, none of whom another transaction can demote until this one ends. Nobody is locked unless `id` is one.
pub(in crate::accounts) async fn lock_admins_with(tx: &mut PgConnection, id: UserId) -> Result<Vec<UserId>> {
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id: UserId"
           FROM users
           WHERE role = 'admin'
             AND NOT disabled
             AND EXISTS (SELECT FROM users WHERE id = $1 AND role = 'admin' AND NOT disabled)
           ORDER BY id
           FOR NO KEY UPDATE"#,
        id.0,
    );
    Ok(ids.fetch_all(tx).await?)
}

/// `false` when the address has an account already.
pub(in crate::accounts) async fn insert(tx: &mut PgConnection, user: &UserRow) -> Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO users (id, email, display_name, password_hash, role, disabled, token_version, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
         ON CONFLICT (lower(email)) DO NOTHING",
        user.id.0,
        user.email,
        user.display_name,
        user.password_hash,
        user.role.as_str(),
        user.disabled,
        user.token_version,
        user.created_at,
    );
    Ok(done.execute(tx).await?.rows_affected() == 1)
}

/// Sets a new password and ends all access tokens; returns the new token version.
pub(in crate::accounts) async fn set_password(tx: &mut PgConnection, id: UserId, hash: &str, now: OffsetDateTime) -> Result<i32> {
    let version = sqlx::query_scalar!(
        "UPDATE users
         SET password_hash = $2, token_version = token_version + 1, updated_at = $3
         WHERE id = $1
         RETURNING token_version",
        id.0,
        hash,
        now,
    );
    Ok(version.fetch_one(tx).await?)
}

/// Replaces the hash of an unchanged password.
pub(in crate::accounts) async fn rehash(tx: &mut PgConnection, id: UserId, hash: &str) -> Result<()> {
    sqlx::query!("UPDATE users SET password_hash = $2 WHERE id = $1", id.0, hash).execute(tx).await?;
    Ok(())
}

/// Sets role and state and ends all access tokens, which carry the old ones.
pub(in crate::accounts) async fn change(
    tx: &mut PgConnection,
    id: UserId,
    (role, disabled): (Role, bool),
    now: OffsetDateTime,
) -> Result<UserRow> {
    let row = sqlx::query_as!(
        UserRow,
        r#"UPDATE users
           SET role = $2, disabled = $3, token_version = token_version + 1, updated_at = $4
           WHERE id = $1
           RETURNING id AS "id: UserId", email, display_name, password_hash, role AS "role: Role", disabled, token_version, created_at"#,
        id.0,
        role.as_str(),
        disabled,
        now,
    );
    Ok(row.fetch_one(tx).await?)
}

pub(in crate::accounts) async fn page(db: ByValues<impl PgExecutor<'_>>, page: &PageRequest) -> Result<Vec<UserRow>> {
    let rows = sqlx::query_as!(
        UserRow,
        r#"SELECT id AS "id: UserId", email, display_name, password_hash, role AS "role: Role", disabled, token_version, created_at
           FROM users
           WHERE deleted_at IS NULL AND ($1::uuid IS NULL OR id < $1)
           ORDER BY id DESC
           LIMIT $2"#,
        page.before,
        page.fetch(),
    );
    Ok(rows.fetch_all(db).await?)
}
