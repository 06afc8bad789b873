//! Statements on `endpoints`, and the one that reads where a job goes.

use super::{EndpointSettings, EndpointState, Headers};
use crate::{
    ids::{EndpointId, JobId, UserId},
    page::PageRequest,
    pg::ByValues,
};
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgExecutor, types::Json};
use time::OffsetDateTime;

/// A row, its secrets included.
#[derive(Debug)]
pub(super) struct EndpointRow {
    pub(super) id: EndpointId,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) headers: Json<Headers>,
    pub(super) timeout_ms: i32,
    pub(super) max_rate: Option<f64>,
    pub(super) state: EndpointState,
    pub(super) secret: Vec<u8>,
    pub(super) previous_secret: Option<Vec<u8>>,
    pub(super) previous_until: Option<OffsetDateTime>,
    /// To another origin, since that is noted.
    pub(super) has_moved: bool,
    pub(super) created_at: OffsetDateTime,
}

impl From<EndpointRow> for EndpointSettings {
    fn from(row: EndpointRow) -> Self {
        let EndpointRow { id, name, url, headers: Json(headers), timeout_ms, max_rate, state, created_at, .. } = row;
        Self { id, name, url, headers, timeout_ms, max_rate, state, created_at }
    }
}

pub(super) async fn insert(tx: &mut PgConnection, owner_id: UserId, row: &EndpointSettings, secret: &[u8]) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO endpoints (id, owner_id, name, url, headers, timeout_ms, max_rate, secret, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        row.id.0,
        owner_id.0,
        row.name,
        row.url,
        Json(&row.headers) as _,
        row.timeout_ms,
        row.max_rate,
        secret,
        row.created_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// How many an owner has; exact within a transaction of one that makes another, others of the same owner wait.
pub(super) async fn count(tx: &mut PgConnection, owner_id: UserId) -> sqlx::Result<i64> {
    sqlx::query!("SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE", owner_id.0).fetch_optional(&mut *tx).await?;
    sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM endpoints WHERE owner_id = $1"#, owner_id.0).fetch_one(tx).await
}

/// One endpoint; `owner_id` `None` takes anybody's.
pub(super) async fn find(db: impl PgExecutor<'_>, id: EndpointId, owner_id: Option<UserId>) -> sqlx::Result<Option<EndpointRow>> {
    sqlx::query_as!(
        EndpointRow,
        r#"SELECT id AS "id: EndpointId", name, url, headers AS "headers: Json<Headers>", timeout_ms, max_rate,
               state AS "state: EndpointState", secret, previous_secret, previous_until, has_moved, created_at
        FROM endpoints
        WHERE id = $1
            AND ($2::uuid IS NULL OR owner_id = $2)"#,
        id.0,
        owner_id as Option<UserId>,
    )
    .fetch_optional(db)
    .await
}

/// [`find`] of one that is about to be changed: it stands still until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, id: EndpointId, owner_id: Option<UserId>) -> sqlx::Result<Option<EndpointRow>> {
    sqlx::query_as!(
        EndpointRow,
        r#"SELECT id AS "id: EndpointId", name, url, headers AS "headers: Json<Headers>", timeout_ms, max_rate,
               state AS "state: EndpointState", secret, previous_secret, previous_until, has_moved, created_at
        FROM endpoints
        WHERE id = $1
            AND ($2::uuid IS NULL OR owner_id = $2)
        FOR UPDATE"#,
        id.0,
        owner_id as Option<UserId>,
    )
    .fetch_optional(tx)
    .await
}

pub(super) async fn page(
    db: ByValues<impl PgExecutor<'_>>,
    owner_id: Option<UserId>,
    page: &PageRequest,
) -> sqlx::Result<Vec<EndpointRow>> {
    sqlx::query_as!(
        EndpointRow,
        r#"SELECT id AS "id: EndpointId", name, url, headers AS "headers: Json<Headers>", timeout_ms, max_rate,
               state AS "state: EndpointState", secret, previous_secret, previous_until, has_moved, created_at
        FROM endpoints
        WHERE ($1::uuid IS NULL OR owner_id = $1)
            AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC
        LIMIT $3"#,
        owner_id as Option<UserId>,
        page.before,
        page.fetch(),
    )
    .fetch_all(db)
    .await
}

pub(super) async fn update(db: impl PgExecutor<'_>, row: &EndpointSettings) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints
        SET name = $2,
            url = $3,
            headers = $4,
            timeout_ms = $5,
            max_rate = $6,
            state = $7
        WHERE id = $1",
        row.id.0,
        row.name,
        row.url,
        Json(&row.headers) as _,
        row.timeout_ms,
        row.max_rate,
        row.state as EndpointState,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A new secret; the one it replaces is good until `until`.
pub(super) async fn rotate(db: impl PgExecutor<'_>, id: EndpointId, secret: &[u8], until: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints
        SET previous_secret = secret,
            previous_until = $3,
            secret = $2
        WHERE id = $1",
        id.0,
        secret,
        until,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// `false` where it is disabled already, or has another URL by now.
pub(super) async fn disable(db: impl PgExecutor<'_>, id: EndpointId, url: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("UPDATE endpoints SET state = 'disabled' WHERE id = $1 AND url = $2 AND state <> 'disabled'", id.0, url);
    Ok(done.execute(db).await?.rows_affected() == 1)
}

pub(super) async fn delete(db: impl PgExecutor<'_>, id: EndpointId) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM endpoints WHERE id = $1", id.0).execute(db).await?;
    Ok(())
}

/// Where a live job goes.
pub(super) async fn target_of(db: impl PgExecutor<'_>, id: JobId) -> sqlx::Result<Option<Box<RawValue>>> {
    let target = sqlx::query_scalar!(r#"SELECT target AS "target: Json<Box<RawValue>>" FROM jobs WHERE id = $1"#, id.0);
    Ok(target.fetch_optional(db).await?.flatten().map(|json| json.0))
}
