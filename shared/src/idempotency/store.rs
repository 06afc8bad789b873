//! SQL of idempotency keys.

use super::StoredAnswer;
use crate::{Error, Result, ids::UserId};
use sqlx::{PgConnection, PgPool, query, query_scalar};
use std::time::Duration;

/// Whether this transaction now holds the lock; it is freed with the transaction.
pub(super) async fn try_lock(tx: &mut PgConnection, lock_id: i64) -> Result<bool> {
    Ok(query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "locked!""#, lock_id).fetch_one(tx).await?)
}

/// The body's hash and the answer of the first request. Answers past their time count as absent.
pub(super) async fn find(tx: &mut PgConnection, principal: UserId, route: &str, key: &str) -> Result<Option<(Vec<u8>, StoredAnswer)>> {
    let row = query!(
        "SELECT body_hash, status, location, body
         FROM idempotency_keys
         WHERE principal = $1
           AND route = $2
           AND key = $3
           AND created_at > now() - interval '24 hours'",
        principal.0,
        route,
        key
    )
    .fetch_optional(tx)
    .await?;
    row.map(|row| {
        let status = u16::try_from(row.status).map_err(Error::internal)?;
        Ok((row.body_hash, StoredAnswer { status, location: row.location, body: row.body }))
    })
    .transpose()
}

/// Stores the answer; an old one under the same key, past its time, is replaced.
pub(super) async fn insert(
    tx: &mut PgConnection,
    principal: UserId,
    route: &str,
    key: &str,
    body_hash: &[u8],
    answer: &StoredAnswer,
) -> Result<()> {
    let status = i16::try_from(answer.status).map_err(Error::internal)?;
    query!(
        "INSERT INTO idempotency_keys (principal, route, key, body_hash, status, location, body)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (principal, route, key) DO UPDATE
         SET body_hash = excluded.body_hash,
             status = excluded.status,
             location = excluded.location,
             body = excluded.body,
             created_at = now()",
        principal.0,
        route,
        key,
        body_hash,
        status,
        answer.location,
        answer.body
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn delete_older_than(pg: &PgPool, age: Duration, limit: i64) -> Result<u64> {
    let done = query!(
        "DELETE FROM idempotency_keys
         WHERE ctid IN (
             SELECT ctid FROM idempotency_keys
             WHERE created_at < now() - make_interval(secs => $1)
             LIMIT $2
         )",
        age.as_secs_f64(),
        limit
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected())
}
