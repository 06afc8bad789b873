//! The engine's SQL of jobs that wait for a callback. Everybody locks the callback first and then the job, so that nobody deadlocks.

use crate::{ids::JobId, jobs::engine::token::Token};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

/// A callback that was taken: nobody else has it now.
#[derive(Debug)]
pub(in crate::jobs::engine) struct Callback {
    pub(in crate::jobs::engine) job_id: JobId,
    pub(in crate::jobs::engine) attempt: i32,
    pub(in crate::jobs::engine) started_at: OffsetDateTime,
}

/// Lets whoever has the token settle this attempt.
pub(in crate::jobs::engine) async fn insert(
    db: impl PgExecutor<'_>,
    token_hash: &[u8],
    (job_id, attempt): (JobId, i32),
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO callbacks (token_hash, job_id, attempt, started_at, expires_at)
        VALUES ($1, $2, $3, $4, $5)",
        token_hash,
        job_id.0,
        attempt,
        now,
        expires_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(in crate::jobs::engine) async fn delete(db: impl PgExecutor<'_>, token_hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM callbacks WHERE token_hash = $1", token_hash).execute(db).await?;
    Ok(())
}

/// Gives a callback until `until`; `false` when it has been used.
pub(in crate::jobs::engine) async fn extend(tx: &mut PgConnection, token_hash: &[u8], until: OffsetDateTime) -> sqlx::Result<bool> {
    let done = sqlx::query!("UPDATE callbacks SET expires_at = $2 WHERE token_hash = $1", token_hash, until).execute(tx).await?;
    Ok(done.rows_affected() == 1)
}

/// Parks the job of an attempt that is under way; `false` when it is not any more, or its cancel was asked for.
pub(in crate::jobs::engine) async fn park(tx: &mut PgConnection, token: Token, until: OffsetDateTime) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE jobs
        SET state = 'waiting',
            wait_reason = 'callback',
            run_at = $4,
            attempt = $2,
            nonce = $3
        WHERE id = $1
          AND state = 'pending'
          AND attempt < $2
          AND cancel_requested_at IS NULL",
        token.job_id.0,
        token.attempt,
        token.nonce.0,
        until,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes a callback that is good still.
pub(in crate::jobs::engine) async fn take(tx: &mut PgConnection, token_hash: &[u8], now: OffsetDateTime) -> sqlx::Result<Option<Callback>> {
    sqlx::query_as!(
        Callback,
        r#"DELETE FROM callbacks
        WHERE token_hash = $1
          AND expires_at > $2
        RETURNING job_id AS "job_id: JobId", attempt, started_at"#,
        token_hash,
        now,
    )
    .fetch_optional(tx)
    .await
}

/// Takes one callback that nobody used in time.
pub(in crate::jobs::engine) async fn take_expired(tx: &mut PgConnection, now: OffsetDateTime) -> sqlx::Result<Option<Callback>> {
    sqlx::query_as!(
        Callback,
        r#"DELETE FROM callbacks
        WHERE token_hash = (
            SELECT token_hash
            FROM callbacks
            WHERE expires_at <= $1
            ORDER BY expires_at
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        )
        RETURNING job_id AS "job_id: JobId", attempt, started_at"#,
        now,
    )
    .fetch_optional(tx)
    .await
}

/// A live row that a callback is about.
#[derive(Debug)]
pub(in crate::jobs::engine) struct LiveRow {
    pub(in crate::jobs::engine) queue: String,
    pub(in crate::jobs::engine) attempt: i32,
    pub(in crate::jobs::engine) is_parked: bool,
}

/// The row of a live job, which stands still until the transaction ends.
pub(in crate::jobs::engine) async fn lock(tx: &mut PgConnection, id: JobId) -> sqlx::Result<Option<LiveRow>> {
    sqlx::query_as!(
        LiveRow,
        r#"SELECT queue, attempt, (state = 'waiting' AND wait_reason = 'callback') AS "is_parked!"
        FROM jobs
        WHERE id = $1
          AND (state = 'pending' OR wait_reason = 'callback')
        FOR UPDATE"#,
        id.0,
    )
    .fetch_optional(tx)
    .await
}

/// Opens the attempt of a parked job again, for its conclusion in the same transaction.
pub(in crate::jobs::engine) async fn reopen(tx: &mut PgConnection, id: JobId) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE jobs
        SET state = 'pending',
            wait_reason = NULL,
            attempt = attempt - 1
        WHERE id = $1",
        id.0,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends the wait of a job that is to be cancelled; its attempt is over. `false` where it waits for no callback.
pub(in crate::jobs::engine) async fn wake(db: impl PgExecutor<'_>, id: JobId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE jobs
        SET state = 'pending',
            wait_reason = NULL
        WHERE id = $1
          AND state = 'waiting'
          AND wait_reason = 'callback'
          AND cancel_requested_at IS NOT NULL",
        id.0,
    );
    Ok(done.execute(db).await?.rows_affected() == 1)
}
