//! Statements on `sessions`.

use crate::{
    Result, Role,
    ids::{SessionId, UserId},
    page::PageRequest,
    pg::ByValues,
};
use sqlx::{PgConnection, PgExecutor};
use std::net::IpAddr;
use time::OffsetDateTime;

pub(in crate::accounts) struct SessionRow {
    pub id: SessionId,
    pub user_id: UserId,
    pub nonce: Vec<u8>,
    pub user_agent: Option<String>,
    pub address: Option<IpAddr>,
    pub created_at: OffsetDateTime,
    pub last_used_at: OffsetDateTime,
    pub access_expires_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// A session that just ended, and when its last access token does.
pub(in crate::accounts) struct Ended {
    pub id: SessionId,
    pub access_expires_at: OffsetDateTime,
}

pub(in crate::accounts) async fn insert(tx: &mut PgConnection, session: &SessionRow) -> Result<()> {
    sqlx::query!(
        "INSERT INTO sessions (id, user_id, rotated_at, nonce, user_agent, address, created_at, last_used_at,
                               access_expires_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $3, $3, $7, $8)",
        session.id.0,
        session.user_id.0,
        session.created_at,
        session.nonce,
        session.user_agent,
        session.address as _,
        session.access_expires_at,
        session.expires_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What a presented refresh token is checked against.
pub(in crate::accounts) struct RefreshRow {
    pub user_id: UserId,
    pub nonce: Vec<u8>,
}

pub(in crate::accounts) async fn for_refresh(db: impl PgExecutor<'_>, id: SessionId) -> Result<Option<RefreshRow>> {
    let row = sqlx::query_as!(RefreshRow, r#"SELECT user_id AS "user_id: UserId", nonce FROM sessions WHERE id = $1"#, id.0);
    Ok(row.fetch_optional(db).await?)
}

pub(in crate::accounts) struct Rotation<'a> {
    pub id: SessionId,
    /// The generation presented.
    pub generation: i32,
    pub now: OffsetDateTime,
    /// Rotated since then, the generation before the current one is still good.
    pub grace_since: OffsetDateTime,
    pub access_expires_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    pub user_agent: Option<&'a str>,
    pub address: Option<IpAddr>,
}

/// A refreshed session: its generation now, and its user.
pub(in crate::accounts) struct Rotated {
    pub generation: i32,
    pub user_id: UserId,
    pub email: String,
    pub display_name: Option<String>,
    pub role: Role,
    pub token_version: i32,
    pub created_at: OffsetDateTime,
}

/// Goes on to the next generation, or stays when that was already done moments ago; `None` when neither may be.
///
/// One guarded statement: of two at once the second waits for the first, and then sees its generation.
pub(in crate::accounts) async fn rotate(db: impl PgExecutor<'_>, rotation: &Rotation<'_>) -> Result<Option<Rotated>> {
    let row = sqlx::query_as!(
        Rotated,
        r#"UPDATE sessions
           SET generation = CASE WHEN generation = $2 THEN generation + 1 ELSE generation END,
               rotated_at = CASE WHEN generation = $2 THEN $3 ELSE rotated_at END,
               last_used_at = $3,
               access_expires_at = greatest(access_expires_at, $5),
               expires_at = $6,
               user_agent = coalesce($7, user_agent),
               address = coalesce($8, address)
           FROM users
           WHERE sessions.id = $1
             AND users.id = sessions.user_id
             AND NOT users.disabled
             AND sessions.revoked_at IS NULL
             AND sessions.expires_at > $3
             AND (sessions.generation = $2 OR (sessions.generation = $2 + 1 AND sessions.rotated_at > $4))
           RETURNING sessions.generation, users.id AS "user_id: UserId", users.email, users.display_name,
                     users.role AS "role: Role", users.token_version, users.created_at"#,
        rotation.id.0,
        rotation.generation,
        rotation.now,
        rotation.grace_since,
        rotation.access_expires_at,
        rotation.expires_at,
        rotation.user_agent,
        rotation.address as _,
    );
    Ok(row.fetch_optional(db).await?)
}

/// Ends a session of which a refresh token older than the grace was presented; `None` when it is not so.
pub(in crate::accounts) async fn revoke_reused(tx: &mut PgConnection, rotation: &Rotation<'_>) -> Result<Option<Ended>> {
    let row = sqlx::query_as!(
        Ended,
        r#"UPDATE sessions
           SET revoked_at = $3
           WHERE id = $1
             AND revoked_at IS NULL
             AND expires_at > $3
             AND generation > $2
             AND NOT (generation = $2 + 1 AND rotated_at > $4)
           RETURNING id AS "id: SessionId", access_expires_at"#,
        rotation.id.0,
        rotation.generation,
        rotation.now,
        rotation.grace_since,
    );
    Ok(row.fetch_optional(tx).await?)
}

/// A new generation without a refresh, for the session that changed its user's password.
pub(in crate::accounts) async fn advance(
    tx: &mut PgConnection,
    id: SessionId,
    (now, access_expires_at): (OffsetDateTime, OffsetDateTime),
) -> Result<Option<(i32, Vec<u8>)>> {
    let row = sqlx::query!(
        "UPDATE sessions
         SET generation = generation + 1, rotated_at = $2, last_used_at = $2, access_expires_at = greatest(access_expires_at, $3)
         WHERE id = $1 AND revoked_at IS NULL AND expires_at > $2
         RETURNING generation, nonce",
        id.0,
        now,
        access_expires_at,
    );
    Ok(row.fetch_optional(tx).await?.map(|row| (row.generation, row.nonce)))
}

/// Ends one session of `user_id`; `None` when it is not theirs or has ended.
pub(in crate::accounts) async fn revoke(
    tx: &mut PgConnection,
    (user_id, id): (UserId, SessionId),
    now: OffsetDateTime,
) -> Result<Option<Ended>> {
    let row = sqlx::query_as!(
        Ended,
        r#"UPDATE sessions
           SET revoked_at = $3
           WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3
           RETURNING id AS "id: SessionId", access_expires_at"#,
        id.0,
        user_id.0,
        now,
    );
    Ok(row.fetch_optional(tx).await?)
}

/// Ends all sessions of `user_id` but `kept`.
pub(in crate::accounts) async fn revoke_all(
    tx: &mut PgConnection,
    (user_id, kept): (UserId, Option<SessionId>),
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "UPDATE sessions
         SET revoked_at = $3
         WHERE user_id = $1 AND id IS DISTINCT FROM $2 AND revoked_at IS NULL",
        user_id.0,
        kept.map(|id| id.0),
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends the sessions that were not used for longest, so that `kept` stay.
pub(in crate::accounts) async fn revoke_oldest(
    tx: &mut PgConnection,
    (user_id, kept): (UserId, i64),
    now: OffsetDateTime,
) -> Result<Vec<Ended>> {
    let rows = sqlx::query_as!(
        Ended,
        r#"UPDATE sessions
           SET revoked_at = $3
           WHERE id IN (
               SELECT id
               FROM (
                   SELECT id, row_number() OVER (ORDER BY last_used_at DESC, id DESC) AS place
                   FROM sessions
                   WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $3
               ) AS ranked
               WHERE place > $2
           )
           RETURNING id AS "id: SessionId", access_expires_at"#,
        user_id.0,
        kept,
        now,
    );
    Ok(rows.fetch_all(tx).await?)
}

pub(in crate::accounts) async fn page(
    db: ByValues<impl PgExecutor<'_>>,
    user_id: UserId,
    page: &PageRequest,
    now: OffsetDateTime,
) -> Result<Vec<SessionRow>> {
    let rows = sqlx::query_as!(
        SessionRow,
        r#"SELECT id AS "id: SessionId", user_id AS "user_id: UserId", nonce, user_agent, address AS "address: IpAddr",
                  created_at, last_used_at, access_expires_at, expires_at
           FROM sessions
           WHERE user_id = $1
             AND revoked_at IS NULL
             AND expires_at > $4
             AND ($2::uuid IS NULL OR id < $2)
           ORDER BY id DESC
           LIMIT $3"#,
        user_id.0,
        page.before,
        page.fetch(),
        now,
    );
    Ok(rows.fetch_all(db).await?)
}

/// Sessions that can be refreshed at `now`: counted while there are few rows, else what the server believes there are.
pub(in crate::accounts) async fn count_roughly(db: impl PgExecutor<'_>, now: OffsetDateTime) -> Result<i64> {
    let count = sqlx::query_scalar!(
        r#"SELECT CASE WHEN reltuples > 50000 THEN reltuples::bigint
                  ELSE (SELECT count(*) FROM (SELECT FROM sessions WHERE revoked_at IS NULL AND expires_at > $1 LIMIT 50000) AS few)
                  END AS "n!"
           FROM pg_class
           WHERE oid = 'sessions'::regclass"#,
        now,
    );
    Ok(count.fetch_one(db).await?)
}
