//! What is kept of hours, as points are written.

use super::write::instant;
use crate::{
    Result,
    points::{process::HourFold, time::to_us},
};
use sqlx::PgConnection;
use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap},
};
use time::OffsetDateTime;
use uuid::Uuid;

/// A track's hour, by its beginning in microseconds.
pub(crate) type Hour = (Uuid, i64);

/// Adds new points to their hours. Returns the hours that it left as they are: some of the points are not behind all that the hour had, or it
/// had `full` points already.
pub(crate) async fn add(tx: &mut PgConnection, hours: &[HourFold], full: i64) -> Result<BTreeSet<Hour>> {
    if hours.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = sqlx::query!(
        r#"INSERT INTO point_hours AS hours (
            track_id, hour, count, speed_count, speed_sum, speed_min, speed_max, distance_m, west, south, east, north,
            first_at, first_lat, first_lon, last_at, last_lat, last_lon
        )
        SELECT *
        FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::float8[], $6::float8[], $7::float8[], $8::float8[],
            $9::float8[], $10::float8[], $11::float8[], $12::float8[], $13::timestamptz[], $14::float8[], $15::float8[],
            $16::timestamptz[], $17::float8[], $18::float8[])
        ON CONFLICT (track_id, hour) DO UPDATE
        SET count = hours.count + excluded.count,
            speed_count = hours.speed_count + excluded.speed_count,
            speed_sum = hours.speed_sum + excluded.speed_sum,
            speed_min = least(hours.speed_min, excluded.speed_min),
            speed_max = greatest(hours.speed_max, excluded.speed_max),
            distance_m = hours.distance_m + excluded.distance_m
                + points_distance(hours.last_lat, hours.last_lon, excluded.first_lat, excluded.first_lon),
            west = least(hours.west, excluded.west),
            south = least(hours.south, excluded.south),
            east = greatest(hours.east, excluded.east),
            north = greatest(hours.north, excluded.north),
            last_at = excluded.last_at,
            last_lat = excluded.last_lat,
            last_lon = excluded.last_lon
        WHERE hours.last_at < excluded.first_at AND hours.count < $19
        RETURNING track_id, hour"#,
        &column(hours, |hour| hour.track_id),
        &column(hours, |hour| instant(hour.hour_us)),
        &column(hours, |hour| hour.count),
        &column(hours, |hour| hour.speed_count),
        &column(hours, |hour| hour.speed_sum),
        column(hours, |hour| hour.speed_min) as _,
        column(hours, |hour| hour.speed_max) as _,
        &column(hours, |hour| hour.distance_m),
        &column(hours, |hour| hour.west),
        &column(hours, |hour| hour.south),
        &column(hours, |hour| hour.east),
        &column(hours, |hour| hour.north),
        &column(hours, |hour| instant(hour.first.at_us)),
        &column(hours, |hour| hour.first.lat),
        &column(hours, |hour| hour.first.lon),
        &column(hours, |hour| instant(hour.last.at_us)),
        &column(hours, |hour| hour.last.lat),
        &column(hours, |hour| hour.last.lon),
        full,
    )
    .fetch_all(tx)
    .await?;
    let mut left: BTreeSet<Hour> = hours.iter().map(|hour| (hour.track_id, hour.hour_us)).collect();
    for row in rows {
        left.remove(&(row.track_id, to_us(row.hour)));
    }
    Ok(left)
}

/// How many points hours have. What [`add`] left is locked, and so does not change before the transaction ends.
pub(crate) async fn counts(tx: &mut PgConnection, hours: &BTreeSet<Hour>) -> Result<HashMap<Hour, i64>> {
    let (tracks, starts) = columns(hours);
    let rows = sqlx::query!(
        "SELECT point_hours.track_id, point_hours.hour, count
        FROM unnest($1::uuid[], $2::timestamptz[]) AS asked (track_id, hour)
        JOIN point_hours USING (track_id, hour)",
        &tracks,
        &starts,
    );
    Ok(rows.fetch_all(tx).await?.into_iter().map(|row| ((row.track_id, to_us(row.hour)), row.count)).collect())
}

/// Whether there are more than `most` points from the first to the last of the new ones, in all these hours together. No more than that are
/// looked at: `OFFSET 0` has it go from hour to hour.
pub(crate) async fn are_more_between(tx: &mut PgConnection, hours: &[&HourFold], most: i64) -> Result<bool> {
    let are_more = sqlx::query_scalar!(
        r#"SELECT EXISTS (
            SELECT
            FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS fresh (track_id, first_at, last_at)
            CROSS JOIN LATERAL (
                SELECT FROM points WHERE points.track_id = fresh.track_id AND recorded_at BETWEEN first_at AND last_at OFFSET 0
            ) AS between_them
            OFFSET $4
        ) AS "are_more!""#,
        &column(hours, |hour| hour.track_id),
        &column(hours, |hour| instant(hour.first.at_us)),
        &column(hours, |hour| instant(hour.last.at_us)),
        most,
    );
    Ok(are_more.fetch_one(tx).await?)
}

/// Adds new points to hours in which they do not lie behind all others. What counts and sums takes is as in [`add`]; the way is longer by what
/// it is with the new points, less what it was without them, between the nearest points around them: no more of the hour is read.
///
/// New rows are those of this transaction, and the hours must be locked: [`add`] has done so.
pub(crate) async fn merge(tx: &mut PgConnection, hours: &[&HourFold]) -> Result<()> {
    if hours.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "WITH fresh AS MATERIALIZED (
            SELECT fresh.*, coalesce(before.at, first_at) AS low, coalesce(behind.at, last_at) AS high
            FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::float8[], $6::float8[], $7::float8[], $8::float8[],
                $9::float8[], $10::float8[], $11::float8[], $12::timestamptz[], $13::float8[], $14::float8[], $15::timestamptz[],
                $16::float8[], $17::float8[])
                AS fresh (track_id, hour, count, speed_count, speed_sum, speed_min, speed_max, west, south, east, north,
                    first_at, first_lat, first_lon, last_at, last_lat, last_lon)
            LEFT JOIN LATERAL (
                SELECT max(recorded_at) AS at FROM points
                WHERE points.track_id = fresh.track_id AND recorded_at >= fresh.hour AND recorded_at < fresh.first_at
            ) AS before ON true
            LEFT JOIN LATERAL (
                SELECT min(recorded_at) AS at FROM points
                WHERE points.track_id = fresh.track_id AND recorded_at > fresh.last_at AND recorded_at < fresh.hour + interval '1 hour'
            ) AS behind ON true
        )
        UPDATE point_hours AS hours
        SET count = hours.count + fresh.count,
            speed_count = hours.speed_count + fresh.speed_count,
            speed_sum = hours.speed_sum + fresh.speed_sum,
            speed_min = least(hours.speed_min, fresh.speed_min),
            speed_max = greatest(hours.speed_max, fresh.speed_max),
            distance_m = hours.distance_m + way.longer_m,
            west = least(hours.west, fresh.west),
            south = least(hours.south, fresh.south),
            east = greatest(hours.east, fresh.east),
            north = greatest(hours.north, fresh.north),
            first_at = least(hours.first_at, fresh.first_at),
            first_lat = CASE WHEN fresh.first_at < hours.first_at THEN fresh.first_lat ELSE hours.first_lat END,
            first_lon = CASE WHEN fresh.first_at < hours.first_at THEN fresh.first_lon ELSE hours.first_lon END,
            last_at = greatest(hours.last_at, fresh.last_at),
            last_lat = CASE WHEN fresh.last_at > hours.last_at THEN fresh.last_lat ELSE hours.last_lat END,
            last_lon = CASE WHEN fresh.last_at > hours.last_at THEN fresh.last_lon ELSE hours.last_lon END
        FROM fresh
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(step_m), 0) - coalesce(sum(old_step_m), 0) AS longer_m
            FROM (
                SELECT points_distance(lag(lat, 1, lat) OVER all_of, lag(lon, 1, lon) OVER all_of, lat, lon) AS step_m,
                    CASE WHEN is_old THEN points_distance(lag(lat, 1, lat) OVER of_kind, lag(lon, 1, lon) OVER of_kind, lat, lon) END AS old_step_m
                FROM (
                    SELECT recorded_at, lat, lon, points.xmin <> pg_current_xact_id()::xid AS is_old
                    FROM points
                    WHERE points.track_id = fresh.track_id AND recorded_at BETWEEN fresh.low AND fresh.high
                ) AS around
                WINDOW all_of AS (ORDER BY recorded_at), of_kind AS (PARTITION BY is_old ORDER BY recorded_at)
            ) AS steps
        ) AS way
        WHERE hours.track_id = fresh.track_id AND hours.hour = fresh.hour",
        &column(hours, |hour| hour.track_id),
        &column(hours, |hour| instant(hour.hour_us)),
        &column(hours, |hour| hour.count),
        &column(hours, |hour| hour.speed_count),
        &column(hours, |hour| hour.speed_sum),
        column(hours, |hour| hour.speed_min) as _,
        column(hours, |hour| hour.speed_max) as _,
        &column(hours, |hour| hour.west),
        &column(hours, |hour| hour.south),
        &column(hours, |hour| hour.east),
        &column(hours, |hour| hour.north),
        &column(hours, |hour| instant(hour.first.at_us)),
        &column(hours, |hour| hour.first.lat),
        &column(hours, |hour| hour.first.lon),
        &column(hours, |hour| instant(hour.last.at_us)),
        &column(hours, |hour| hour.last.lat),
        &column(hours, |hour| hour.last.lon),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Keeps others from changing these hours until the transaction ends; in one order, so that two of us never wait for each other. Returns how
/// many points they have.
pub(crate) async fn lock(tx: &mut PgConnection, hours: &BTreeSet<Hour>) -> Result<HashMap<Hour, i64>> {
    let (tracks, starts) = columns(hours);
    let rows = sqlx::query!(
        "SELECT point_hours.track_id, point_hours.hour, count
        FROM unnest($1::uuid[], $2::timestamptz[]) AS touched (track_id, hour)
        JOIN point_hours USING (track_id, hour)
        ORDER BY track_id, hour
        FOR UPDATE OF point_hours",
        &tracks,
        &starts,
    );
    Ok(rows.fetch_all(tx).await?.into_iter().map(|row| ((row.track_id, to_us(row.hour)), row.count)).collect())
}

/// Makes hours anew from their points. Who else writes points to one of them waits for its row, and adds to what is written here.
///
/// It goes from hour to hour, whatever the planner thinks of how many there are: a join would read all points of a track for each.
pub(crate) async fn recompute(tx: &mut PgConnection, hours: &BTreeSet<Hour>) -> Result<()> {
    if hours.is_empty() {
        return Ok(());
    }
    let (tracks, starts) = columns(hours);
    sqlx::query!(
        "INSERT INTO point_hours (
            track_id, hour, count, speed_count, speed_sum, speed_min, speed_max, distance_m, west, south, east, north,
            first_at, first_lat, first_lon, last_at, last_lat, last_lon
        )
        SELECT touched.track_id, touched.hour, anew.count, anew.speed_count, anew.speed_sum, anew.speed_min, anew.speed_max, anew.distance_m,
            anew.west, anew.south, anew.east, anew.north, anew.first_at, first.lat, first.lon, anew.last_at, last.lat, last.lon
        FROM unnest($1::uuid[], $2::timestamptz[]) AS touched (track_id, hour)
        CROSS JOIN LATERAL (
            SELECT count(*) AS count, count(speed_mps) AS speed_count, coalesce(sum(speed_mps), 0) AS speed_sum, min(speed_mps) AS speed_min,
                max(speed_mps) AS speed_max, coalesce(sum(step_m), 0) AS distance_m, min(lon) AS west, min(lat) AS south, max(lon) AS east,
                max(lat) AS north, min(recorded_at) AS first_at, max(recorded_at) AS last_at
            FROM (
                SELECT recorded_at, lat, lon, speed_mps,
                    points_distance(lag(lat, 1, lat) OVER way, lag(lon, 1, lon) OVER way, lat, lon) AS step_m
                FROM points
                WHERE points.track_id = touched.track_id
                  AND recorded_at >= touched.hour
                  AND recorded_at < touched.hour + interval '1 hour'
                WINDOW way AS (ORDER BY recorded_at)
            ) AS steps
            HAVING count(*) > 0
        ) AS anew
        CROSS JOIN LATERAL (
            SELECT lat, lon FROM points WHERE points.track_id = touched.track_id AND recorded_at = anew.first_at LIMIT 1
        ) AS first
        CROSS JOIN LATERAL (
            SELECT lat, lon FROM points WHERE points.track_id = touched.track_id AND recorded_at = anew.last_at LIMIT 1
        ) AS last
        ORDER BY touched.track_id, touched.hour
        ON CONFLICT (track_id, hour) DO UPDATE
        SET count = excluded.count,
            speed_count = excluded.speed_count,
            speed_sum = excluded.speed_sum,
            speed_min = excluded.speed_min,
            speed_max = excluded.speed_max,
            distance_m = excluded.distance_m,
            west = excluded.west,
            south = excluded.south,
            east = excluded.east,
            north = excluded.north,
            first_at = excluded.first_at,
            first_lat = excluded.first_lat,
            first_lon = excluded.first_lon,
            last_at = excluded.last_at,
            last_lat = excluded.last_lat,
            last_lon = excluded.last_lon",
        &tracks,
        &starts,
    )
    .execute(tx)
    .await?;
    Ok(())
}

fn column<T>(hours: &[impl Borrow<HourFold>], of: impl Fn(&HourFold) -> T) -> Vec<T> {
    hours.iter().map(|hour| of(hour.borrow())).collect()
}

fn columns(hours: &BTreeSet<Hour>) -> (Vec<Uuid>, Vec<OffsetDateTime>) {
    hours.iter().map(|(track_id, hour_us)| (*track_id, instant(*hour_us))).unzip()
}
