//! Writing points in bulk.

use crate::{
    Result,
    points::{
        Point,
        time::{to_time, to_us},
    },
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// What a bulk came to.
#[derive(Debug)]
pub(crate) enum Inserted {
    /// Every point was inserted: the usual case, of which nothing but that is told.
    AllNew,
    /// Those that were inserted or changed; what is not among them was there as it is.
    Some(Vec<Row>),
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) track_id: Uuid,
    pub(crate) recorded_at_us: i64,
    pub(crate) is_new: bool,
}

/// Inserts points, each track and time at most once among them, or changes those that are there otherwise.
///
/// A row's `revision` tells which it was: 0 is a new one.
pub(crate) async fn insert(tx: &mut PgConnection, points: &[&Point<'_>]) -> Result<Inserted> {
    let tracks: Vec<Uuid> = points.iter().map(|point| point.track_id.0).collect();
    let times: Vec<OffsetDateTime> = points.iter().map(|point| instant(point.recorded_at_us)).collect();
    let lats: Vec<f64> = points.iter().map(|point| point.lat).collect();
    let lons: Vec<f64> = points.iter().map(|point| point.lon).collect();
    let altitudes: Vec<Option<f64>> = points.iter().map(|point| point.altitude_m).collect();
    let speeds: Vec<Option<f64>> = points.iter().map(|point| point.speed_mps).collect();
    let headings: Vec<Option<f64>> = points.iter().map(|point| point.heading_deg).collect();
    let accuracies: Vec<Option<f64>> = points.iter().map(|point| point.accuracy_m).collect();
    let attributes: Vec<Option<&str>> = points.iter().map(|point| point.attributes.as_deref()).collect();
    let rows = sqlx::query!(
        r#"WITH written AS (
            INSERT INTO points (track_id, recorded_at, lat, lon, altitude_m, speed_mps, heading_deg, accuracy_m, attributes)
            SELECT *
            FROM unnest($1::uuid[], $2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], $7::float8[],
                $8::float8[], $9::text[])
            ON CONFLICT (track_id, recorded_at) DO UPDATE
            SET lat = excluded.lat, lon = excluded.lon, altitude_m = excluded.altitude_m, speed_mps = excluded.speed_mps,
                heading_deg = excluded.heading_deg, accuracy_m = excluded.accuracy_m, attributes = excluded.attributes,
                revision = points.revision % 32000 + 1
            WHERE (points.lat, points.lon, points.altitude_m, points.speed_mps, points.heading_deg, points.accuracy_m, points.attributes)
                IS DISTINCT FROM (excluded.lat, excluded.lon, excluded.altitude_m, excluded.speed_mps, excluded.heading_deg,
                    excluded.accuracy_m, excluded.attributes)
            RETURNING track_id, recorded_at, revision = 0 AS is_new
        ),
        tally AS (
            SELECT count(*) FILTER (WHERE is_new) AS n_new
            FROM written
        )
        SELECT n_new AS "n_new!", track_id AS "track_id?", recorded_at AS "recorded_at?", is_new AS "is_new?"
        FROM tally
        LEFT JOIN written ON n_new < $10"#,
        &tracks,
        &times,
        &lats,
        &lons,
        altitudes as _,
        speeds as _,
        headings as _,
        accuracies as _,
        attributes as _,
        points.len() as i64,
    )
    .fetch_all(tx)
    .await?;
    if rows.first().is_some_and(|row| usize::try_from(row.n_new) == Ok(points.len())) {
        return Ok(Inserted::AllNew);
    }
    let written = rows.into_iter().filter_map(|row| {
        let (track_id, recorded_at) = row.track_id.zip(row.recorded_at)?;
        Some(Row { track_id, recorded_at_us: to_us(recorded_at), is_new: row.is_new.unwrap_or(false) })
    });
    Ok(Inserted::Some(written.collect()))
}

pub(super) fn instant(at_us: i64) -> OffsetDateTime {
    to_time(at_us).expect("points are of years 1970 to 9999")
}
