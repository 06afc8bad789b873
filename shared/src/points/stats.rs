//! Stats of hours and days, from what is kept of hours as points are stored: no point is read for them.

use super::{read, store, store::read::Buckets};
use crate::{Caller, Context, Result, Scope, ids::TrackId, instant, tracks::manage, turns::Waiter};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

/// Most buckets of one answer: more than a year of hours.
const BUCKETS_MAX: i64 = 10_000;

/// Which stats are asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StatsQuery {
    /// `hour` when absent. Days are those of UTC.
    #[serde(default)]
    #[param(inline)]
    pub bucket: Bucket,
    /// Only hours that begin at this time or later.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<OffsetDateTime>,
    /// Only hours that begin before this time.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<OffsetDateTime>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bucket {
    #[default]
    Hour,
    Day,
}

impl Bucket {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    const fn width(self) -> Duration {
        match self {
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }
}

/// Stats by time, oldest first; those of a range with more than 10,000 buckets are its newest.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Stats {
    pub bucket: Bucket,
    pub items: Vec<HourStats>,
}

/// What is known of the points of one bucket. Buckets without points are left out.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({
    "start": "2026-11-21T10:00:00Z", "count": 3600, "min_speed_mps": 0.0, "max_speed_mps": 13.9, "avg_speed_mps": 7.2,
    "distance_m": 25920.4, "bbox": [13.3, 52.4, 13.5, 52.6]
}))]
pub struct HourStats {
    #[serde(with = "time::serde::rfc3339")]
    pub start: OffsetDateTime,
    #[schema(minimum = 1)]
    pub count: i64,
    /// Speeds are those of the points that have one; `null` where none has.
    #[schema(required)]
    pub min_speed_mps: Option<f64>,
    #[schema(required)]
    pub max_speed_mps: Option<f64>,
    #[schema(required)]
    pub avg_speed_mps: Option<f64>,
    /// Along the points of each hour in the order of their time; the way from one hour into the next is in neither.
    pub distance_m: f64,
    /// West, south, east, north.
    pub bbox: [f64; 4],
}

/// Sums of hours, as the statements give them; none of them is NULL where there is an hour.
#[derive(Debug)]
pub(crate) struct HourRow {
    pub(crate) start: OffsetDateTime,
    pub(crate) count: Option<i64>,
    pub(crate) speed_count: Option<i64>,
    pub(crate) speed_sum: Option<f64>,
    pub(crate) speed_min: Option<f64>,
    pub(crate) speed_max: Option<f64>,
    pub(crate) distance_m: Option<f64>,
    pub(crate) west: Option<f64>,
    pub(crate) south: Option<f64>,
    pub(crate) east: Option<f64>,
    pub(crate) north: Option<f64>,
}

impl From<HourRow> for HourStats {
    fn from(row: HourRow) -> Self {
        let number = |number: Option<f64>| number.unwrap_or_default();
        Self {
            start: row.start,
            count: row.count.unwrap_or_default(),
            min_speed_mps: row.speed_min,
            max_speed_mps: row.speed_max,
            avg_speed_mps: row.avg_speed(),
            distance_m: number(row.distance_m),
            bbox: [number(row.west), number(row.south), number(row.east), number(row.north)],
        }
    }
}

impl HourRow {
    pub(crate) fn avg_speed(&self) -> Option<f64> {
        let n_speeds = self.speed_count.filter(|count| *count > 0)?;
        Some(self.speed_sum.unwrap_or_default() / n_speeds as f64)
    }
}

/// Of one track.
pub async fn of_track(ctx: &Context, caller: &Caller, track_id: TrackId, query: &StatsQuery, waiter: &impl Waiter) -> Result<Stats> {
    let buckets = query.buckets()?;
    manage::require_readable(ctx, caller, track_id).await?;
    let _turn = ctx.points.stats_turn(caller.user_id, waiter).await?;
    let rows = store::read::stats(ctx.by_values(), track_id, buckets).await?;
    Ok(Stats { bucket: query.bucket, items: rows.into_iter().map(HourStats::from).collect() })
}

/// Of one track, for whoever has made sure that it may be read: buckets of hours that begin from `from` until before `to`.
pub(crate) async fn rows_of(
    ctx: &Context,
    track_id: TrackId,
    bucket: Bucket,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Result<Vec<HourRow>> {
    store::read::stats(ctx.by_values(), track_id, Buckets { width: bucket.width(), from, to, limit: BUCKETS_MAX }).await
}

/// Of all tracks of the caller together; operators have everybody's.
pub async fn of_all(ctx: &Context, caller: &Caller, query: &StatsQuery, waiter: &impl Waiter) -> Result<Stats> {
    caller.require(Scope::TracksRead)?;
    let buckets = query.buckets()?;
    let _turn = ctx.points.stats_turn(caller.user_id, waiter).await?;
    let rows = store::read::stats_of_all(ctx.by_values(), caller.owner_filter(), buckets).await?;
    Ok(Stats { bucket: query.bucket, items: rows.into_iter().map(HourStats::from).collect() })
}

impl StatsQuery {
    fn buckets(&self) -> Result<Buckets> {
        let (from, to) = read::range(self.from, self.to)?;
        // Every hour begins before the last instant.
        Ok(Buckets { width: self.bucket.width(), from, to: to.unwrap_or(instant::LAST), limit: BUCKETS_MAX })
    }
}
