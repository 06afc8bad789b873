//! Reading points and hours.

use crate::{
    Result,
    ids::{TrackId, UserId},
    pg::ByValues,
    points::{HourRow, PointRow},
};
use sqlx::{PgExecutor, PgPool, postgres::types::PgInterval};
use std::time::Duration;
use time::OffsetDateTime;

/// Points of a time range of one track, strictly beyond a point where a page goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) track_id: TrackId,
    pub(crate) from: OffsetDateTime,
    /// `None`: however late they are.
    pub(crate) to: Option<OffsetDateTime>,
    pub(crate) limit: i64,
}

/// Those from `from` (or after `after`) until before `to`, oldest first.
pub(crate) async fn oldest(db: ByValues<impl PgExecutor<'_>>, range: Range, after: Option<OffsetDateTime>) -> Result<Vec<PointRow>> {
    let rows = sqlx::query_as!(
        PointRow,
        r#"SELECT track_id AS "track_id: TrackId", recorded_at, lat, lon, altitude_m, speed_mps, heading_deg, accuracy_m, attributes
        FROM points
        WHERE track_id = $1
          AND recorded_at >= $2
          AND recorded_at < COALESCE($3::timestamptz, 'infinity')
          AND ($4::timestamptz IS NULL OR recorded_at > $4)
        ORDER BY recorded_at
        LIMIT $5"#,
        range.track_id.0,
        after.map_or(range.from, |after| after.max(range.from)),
        range.to,
        after,
        range.limit,
    );
    Ok(rows.fetch_all(db).await?)
}

/// The same, newest first and before `before`.
pub(crate) async fn newest(db: ByValues<impl PgExecutor<'_>>, range: Range, before: Option<OffsetDateTime>) -> Result<Vec<PointRow>> {
    let rows = sqlx::query_as!(
        PointRow,
        r#"SELECT track_id AS "track_id: TrackId", recorded_at, lat, lon, altitude_m, speed_mps, heading_deg, accuracy_m, attributes
        FROM points
        WHERE track_id = $1
          AND recorded_at >= $2
          AND recorded_at < COALESCE($3::timestamptz, 'infinity')
        ORDER BY recorded_at DESC
        LIMIT $4"#,
        range.track_id.0,
        range.from,
        [before, range.to].into_iter().flatten().min(),
        range.limit,
    );
    Ok(rows.fetch_all(db).await?)
}

/// The hours say when it was recorded, and so in which partition it is.
pub(crate) async fn latest(pg: &PgPool, track_id: TrackId) -> Result<Option<PointRow>> {
    let row = sqlx::query_as!(
        PointRow,
        r#"SELECT track_id AS "track_id: TrackId", recorded_at, lat, lon, altitude_m, speed_mps, heading_deg, accuracy_m, attributes
        FROM points
        WHERE track_id = $1
          AND recorded_at = (
            SELECT last_at
            FROM point_hours
            WHERE track_id = $1
            ORDER BY hour DESC
            LIMIT 1
          )"#,
        track_id.0,
    );
    Ok(row.fetch_optional(pg).await?)
}

/// How stats are asked for: buckets of hours or days, the newest `limit` of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buckets {
    pub(crate) width: Duration,
    pub(crate) from: OffsetDateTime,
    pub(crate) to: OffsetDateTime,
    pub(crate) limit: i64,
}

impl Buckets {
    fn interval(self) -> PgInterval {
        PgInterval::try_from(self.width).expect("an hour or a day are whole microseconds")
    }
}

/// Of one track, oldest first.
pub(crate) async fn stats(db: ByValues<impl PgExecutor<'_>>, track_id: TrackId, buckets: Buckets) -> Result<Vec<HourRow>> {
    let rows = sqlx::query_as!(
        HourRow,
        r#"SELECT start AS "start!", count, speed_count, speed_sum, speed_min, speed_max, distance_m, west, south, east, north
        FROM (
            SELECT date_bin($2, hour, to_timestamp(0)) AS start, sum(count)::bigint AS count, sum(speed_count)::bigint AS speed_count,
                sum(speed_sum) AS speed_sum, min(speed_min) AS speed_min, max(speed_max) AS speed_max, sum(distance_m) AS distance_m,
                min(west) AS west, min(south) AS south, max(east) AS east, max(north) AS north
            FROM point_hours
            WHERE track_id = $1
              AND hour >= $3
              AND hour < $4
            GROUP BY start
            ORDER BY start DESC
            LIMIT $5
        ) AS newest
        ORDER BY start"#,
        track_id.0,
        buckets.interval(),
        buckets.from,
        buckets.to,
        buckets.limit,
    );
    Ok(rows.fetch_all(db).await?)
}

/// Of all tracks of `owner` together, oldest first; `None` takes everybody's.
///
/// `OFFSET 0` keeps the order of the result from reaching the sums: in buckets by a hash they take half of what sorting all hours does.
pub(crate) async fn stats_of_all(db: ByValues<impl PgExecutor<'_>>, owner: Option<UserId>, buckets: Buckets) -> Result<Vec<HourRow>> {
    let rows = sqlx::query_as!(
        HourRow,
        r#"SELECT start AS "start!", count, speed_count, speed_sum, speed_min, speed_max, distance_m, west, south, east, north
        FROM (
            SELECT *
            FROM (
                SELECT date_bin($2, hour, to_timestamp(0)) AS start, sum(count)::bigint AS count, sum(speed_count)::bigint AS speed_count,
                    sum(speed_sum) AS speed_sum, min(speed_min) AS speed_min, max(speed_max) AS speed_max, sum(distance_m) AS distance_m,
                    min(west) AS west, min(south) AS south, max(east) AS east, max(north) AS north
                FROM point_hours
                WHERE hour >= $3
                  AND hour < $4
                  AND EXISTS (SELECT FROM tracks WHERE id = track_id AND ($1::uuid IS NULL OR owner_id = $1))
                GROUP BY start
                OFFSET 0
            ) AS buckets
            ORDER BY start DESC
            LIMIT $5
        ) AS newest
        ORDER BY start"#,
        owner.map(|owner| owner.0),
        buckets.interval(),
        buckets.from,
        buckets.to,
        buckets.limit,
    );
    Ok(rows.fetch_all(db).await?)
}
