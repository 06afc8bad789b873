//! Whether what is kept of hours of points is what a plain aggregate makes of them.

use crate::Context;

/// Hours as a plain aggregate makes them and as they are kept, where these are not the same. Sums may differ by what the order of adding does.
pub async fn differing_hours(ctx: &Context) -> Option<String> {
    sqlx::query_scalar(
        "WITH steps AS (
            SELECT *, date_trunc('hour', recorded_at) AS hour,
                points_distance(lag(lat, 1, lat) OVER way, lag(lon, 1, lon) OVER way, lat, lon) AS step_m
            FROM points
            WINDOW way AS (PARTITION BY track_id, date_trunc('hour', recorded_at) ORDER BY recorded_at)
        ),
        anew AS (
            SELECT track_id, hour, count(*), count(speed_mps) AS speed_count, coalesce(sum(speed_mps), 0) AS speed_sum,
                min(speed_mps) AS speed_min, max(speed_mps) AS speed_max, coalesce(sum(step_m), 0) AS distance_m,
                min(lon) AS west, min(lat) AS south, max(lon) AS east, max(lat) AS north,
                min(recorded_at) AS first_at, max(recorded_at) AS last_at
            FROM steps
            GROUP BY track_id, hour
        )
        SELECT json_agg(json_build_array(anew, kept))::text
        FROM anew
        FULL JOIN point_hours AS kept USING (track_id, hour)
        LEFT JOIN points AS first ON first.track_id = anew.track_id AND first.recorded_at = anew.first_at
        LEFT JOIN points AS last ON last.track_id = anew.track_id AND last.recorded_at = anew.last_at
        WHERE (anew.count, anew.speed_count, anew.speed_min, anew.speed_max, anew.west, anew.south, anew.east, anew.north,
                anew.first_at, first.lat, first.lon, anew.last_at, last.lat, last.lon)
            IS DISTINCT FROM (kept.count, kept.speed_count, kept.speed_min, kept.speed_max, kept.west, kept.south, kept.east, kept.north,
                kept.first_at, kept.first_lat, kept.first_lon, kept.last_at, kept.last_lat, kept.last_lon)
          OR abs(anew.speed_sum - kept.speed_sum) > 1e-9 * (1 + anew.speed_sum)
          OR abs(anew.distance_m - kept.distance_m) > 1e-9 * (1 + anew.distance_m)",
    )
    .fetch_one(&ctx.pg)
    .await
    .expect("the tables can be read")
}

/// Everything that is kept of hours, bit by bit.
pub async fn all_hours(ctx: &Context) -> String {
    let rows = sqlx::query_scalar("SELECT coalesce(json_agg(h ORDER BY track_id, hour)::text, '') FROM point_hours AS h");
    rows.fetch_one(&ctx.pg).await.expect("the table can be read")
}
