//! Partitions, retention, and what deleted tracks leave.

use crate::{Result, ids::TrackId};
use sqlx::PgPool;
use time::{Date, OffsetDateTime};

/// Makes the partition of a month; `false` when it is there.
pub(crate) async fn add_month(pg: &PgPool, month: Date) -> Result<bool> {
    Ok(sqlx::query_scalar!(r#"SELECT points_add_month($1) AS "is_new!""#, month).fetch_one(pg).await?)
}

/// Removes months that ended before `cutoff`; returns how many.
pub(crate) async fn drop_before(pg: &PgPool, cutoff: OffsetDateTime) -> Result<i32> {
    Ok(sqlx::query_scalar!(r#"SELECT points_drop_before($1) AS "n!""#, cutoff).fetch_one(pg).await?)
}

/// Tracks that were deleted, the longest ago first.
pub(crate) async fn removed_tracks(pg: &PgPool, limit: i64) -> Result<Vec<(TrackId, OffsetDateTime)>> {
    let rows = sqlx::query!(
        r#"SELECT track_id AS "track_id: TrackId", removed_at
        FROM tracks_removed
        ORDER BY removed_at
        LIMIT $1"#,
        limit,
    );
    Ok(rows.fetch_all(pg).await?.into_iter().map(|row| (row.track_id, row.removed_at)).collect())
}

/// Deletes some points of a track; returns how many.
pub(crate) async fn delete_points(pg: &PgPool, track_id: TrackId, limit: i64) -> Result<u64> {
    let deleted = sqlx::query!(
        "DELETE FROM points
        WHERE track_id = $1
          AND recorded_at = ANY(ARRAY(
            SELECT recorded_at
            FROM points
            WHERE track_id = $1
            LIMIT $2
          ))",
        track_id.0,
        limit,
    );
    Ok(deleted.execute(pg).await?.rows_affected())
}

pub(crate) async fn delete_hours(pg: &PgPool, track_id: TrackId) -> Result<()> {
    sqlx::query!("DELETE FROM point_hours WHERE track_id = $1", track_id.0).execute(pg).await?;
    Ok(())
}

/// Nothing is left of it.
pub(crate) async fn forget_track(pg: &PgPool, track_id: TrackId) -> Result<()> {
    sqlx::query!("DELETE FROM tracks_removed WHERE track_id = $1", track_id.0).execute(pg).await?;
    Ok(())
}
