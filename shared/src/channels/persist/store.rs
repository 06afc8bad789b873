//! Statements on `publications`: what was published on persisted channels.

use super::saving::Unsaved;
use crate::{
    Error, Result,
    channels::Publication,
    clock::{from_unix_ms, unix_ms},
};
use sqlx::{PgConnection, PgExecutor, PgPool};
use time::{Date, OffsetDateTime};

struct Row {
    offset: i64,
    published_at: OffsetDateTime,
    body: String,
}

impl Row {
    fn publication(self) -> Result<Publication> {
        let offset = u64::try_from(self.offset).map_err(Error::internal)?;
        Ok(Publication { offset, published_at_ms: unix_ms(self.published_at), body: self.body.into() })
    }
}

/// Writes publications; those that are there already stay as they are.
pub(super) async fn insert(executor: impl PgExecutor<'_>, publications: &[Unsaved]) -> Result<()> {
    let channels: Vec<&str> = publications.iter().map(|unsaved| unsaved.channel.as_str()).collect();
    let epochs: Vec<&str> = publications.iter().map(|unsaved| &*unsaved.epoch).collect();
    let offsets: Vec<i64> = publications.iter().map(|unsaved| unsaved.offset).collect();
    let bodies: Vec<&str> = publications.iter().map(|unsaved| unsaved.body.as_str()).collect();
    let times: Vec<OffsetDateTime> = publications.iter().map(|unsaved| unsaved.published_at).collect();
    sqlx::query!(
        r#"INSERT INTO publications (channel, epoch, "offset", published_at, body)
        SELECT *
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::text[])
        ON CONFLICT DO NOTHING"#,
        channels as _,
        epochs as _,
        &offsets,
        &times,
        bodies as _,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Until the transaction ends, who removes publications waits for it.
pub(super) async fn hold_off_removals(tx: &mut PgConnection) -> Result<()> {
    // The number only has to differ from other advisory locks of this database.
    sqlx::query!("SELECT pg_advisory_xact_lock_shared(7205763)").execute(tx).await?;
    Ok(())
}

/// Waits for those who write publications at this moment.
pub(super) async fn await_savers(pg: &PgPool) -> Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock(7205763)").execute(pg).await?;
    Ok(())
}

/// Deletes some of a channel's publications: those of `epoch` up to the offset, and all of others. Returns how many.
pub(super) async fn delete_up_to(pg: &PgPool, channel: &str, (epoch, offset): (&str, i64), limit: i64) -> Result<u64> {
    let deleted = sqlx::query!(
        r#"DELETE FROM publications AS gone
        USING (
            SELECT epoch, "offset", published_at
            FROM publications
            WHERE channel = $1
              AND (epoch <> $2 OR "offset" <= $3)
            LIMIT $4
        ) AS old
        WHERE gone.channel = $1
          AND gone.epoch = old.epoch
          AND gone."offset" = old."offset"
          AND gone.published_at = old.published_at"#,
        channel,
        epoch,
        offset,
        limit,
    )
    .execute(pg)
    .await?;
    Ok(deleted.rows_affected())
}

/// Which publications of one channel and epoch to read: those strictly between the two offsets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'a> {
    pub(super) channel: &'a str,
    pub(super) epoch: &'a str,
    pub(super) after: i64,
    pub(super) below: i64,
}

/// The oldest of a span, oldest first: at most `limit`, and none behind the one with which their bodies come to more than `bytes`.
pub(super) async fn oldest(pg: &PgPool, span: Span<'_>, (limit, bytes): (i64, i64)) -> Result<Vec<Publication>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT "offset" AS "offset!", published_at AS "published_at!", body AS "body!"
        FROM (
            SELECT *, sum(octet_length(body)) OVER (ORDER BY "offset") - octet_length(body) AS bytes_before
            FROM (
                SELECT "offset", published_at, body
                FROM publications
                WHERE channel = $1
                  AND epoch = $2
                  AND "offset" > $3
                  AND "offset" < $4
                ORDER BY "offset"
                LIMIT $5
            ) AS wanted
        ) AS counted
        WHERE bytes_before <= $6
        ORDER BY "offset""#,
        span.channel,
        span.epoch,
        span.after,
        span.below,
        limit,
        bytes,
    )
    .fetch_all(pg)
    .await?;
    rows.into_iter().map(Row::publication).collect()
}

/// The newest of a span, newest first; `limit` and `bytes` as with [`oldest`].
pub(super) async fn newest(pg: &PgPool, span: Span<'_>, (limit, bytes): (i64, i64)) -> Result<Vec<Publication>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT "offset" AS "offset!", published_at AS "published_at!", body AS "body!"
        FROM (
            SELECT *, sum(octet_length(body)) OVER (ORDER BY "offset" DESC) - octet_length(body) AS bytes_before
            FROM (
                SELECT "offset", published_at, body
                FROM publications
                WHERE channel = $1
                  AND epoch = $2
                  AND "offset" > $3
                  AND "offset" < $4
                ORDER BY "offset" DESC
                LIMIT $5
            ) AS wanted
        ) AS counted
        WHERE bytes_before <= $6
        ORDER BY "offset" DESC"#,
        span.channel,
        span.epoch,
        span.after,
        span.below,
        limit,
        bytes,
    )
    .fetch_all(pg)
    .await?;
    rows.into_iter().map(Row::publication).collect()
}

/// A publication of any epoch.
pub(super) struct Archived {
    pub(super) epoch: String,
    pub(super) publication: Publication,
}

/// The newest of a channel before an instant and offset, whatever their epochs, newest first; `limit` and `bytes` as with [`oldest`].
pub(super) async fn archived(
    pg: &PgPool,
    channel: &str,
    (before_ms, offset): (i64, i64),
    (limit, bytes): (i64, i64),
) -> Result<Vec<Archived>> {
    let before = from_unix_ms(before_ms).ok_or_else(|| Error::internal("a cursor's instant is a time"))?;
    let rows = sqlx::query!(
        r#"SELECT epoch AS "epoch!", "offset" AS "offset!", published_at AS "published_at!", body AS "body!"
        FROM (
            SELECT *, sum(octet_length(body)) OVER (ORDER BY published_at DESC, "offset" DESC) - octet_length(body) AS bytes_before
            FROM (
                SELECT epoch, "offset", published_at, body
                FROM publications
                WHERE channel = $1
                  AND (published_at, "offset") < ($2, $3)
                ORDER BY published_at DESC, "offset" DESC
                LIMIT $4
            ) AS wanted
        ) AS counted
        WHERE bytes_before <= $5
        ORDER BY published_at DESC, "offset" DESC"#,
        channel,
        before,
        offset,
        limit,
        bytes,
    )
    .fetch_all(pg)
    .await?;
    let archived = rows.into_iter().map(|row| {
        let publication = Row { offset: row.offset, published_at: row.published_at, body: row.body }.publication()?;
        Ok(Archived { epoch: row.epoch, publication })
    });
    archived.collect()
}

/// Makes the partitions of the month of `today` and of the months after it; returns how many were missing.
pub(super) async fn add_months(pg: &PgPool, today: Date, n_ahead: i32) -> Result<i64> {
    let n_added = sqlx::query_scalar!(
        r#"SELECT count(*) FILTER (WHERE publications_add_month(($1::date + ahead * interval '1 month')::date)) AS "n!"
        FROM generate_series(0, $2::int) AS ahead"#,
        today,
        n_ahead,
    )
    .fetch_one(pg)
    .await?;
    Ok(n_added)
}

/// Removes months that ended before `cutoff`; returns how many.
pub(super) async fn drop_before(pg: &PgPool, cutoff: OffsetDateTime) -> Result<i32> {
    let n_dropped = sqlx::query_scalar!(r#"SELECT publications_drop_before($1) AS "n!""#, cutoff).fetch_one(pg).await?;
    Ok(n_dropped)
}
