//! A point as callers see it, made from a row or from one that is being handled.

use super::{Point, time};
use crate::ids::TrackId;
use ::time::OffsetDateTime;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A point as it is read.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "track_id": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da", "recorded_at": "2026-11-21T10:00:00Z", "lat": 52.52, "lon": 13.405,
    "speed_mps": 8.3, "heading_deg": 270.0, "attributes": {"battery": 0.8}
}))]
pub struct PointView {
    pub track_id: TrackId,
    #[serde(with = "::time::serde::rfc3339")]
    pub recorded_at: OffsetDateTime,
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    #[schema(minimum = -180, maximum = 180)]
    pub lon: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub altitude_m: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub speed_mps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub heading_deg: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub accuracy_m: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    pub attributes: Option<Box<RawValue>>,
}

/// A row of `points`.
#[derive(Debug)]
pub(crate) struct PointRow {
    pub(crate) track_id: TrackId,
    pub(crate) recorded_at: OffsetDateTime,
    pub(crate) lat: f64,
    pub(crate) lon: f64,
    pub(crate) altitude_m: Option<f64>,
    pub(crate) speed_mps: Option<f64>,
    pub(crate) heading_deg: Option<f64>,
    pub(crate) accuracy_m: Option<f64>,
    pub(crate) attributes: Option<String>,
}

impl From<PointRow> for PointView {
    fn from(row: PointRow) -> Self {
        let PointRow { track_id, recorded_at, lat, lon, altitude_m, speed_mps, heading_deg, accuracy_m, attributes } = row;
        let attributes = attributes.and_then(|json| RawValue::from_string(json).ok());
        Self { track_id, recorded_at, lat, lon, altitude_m, speed_mps, heading_deg, accuracy_m, attributes }
    }
}

impl From<&Point<'_>> for PointView {
    fn from(point: &Point<'_>) -> Self {
        Self {
            track_id: point.track_id,
            recorded_at: time::to_time(point.recorded_at_us).expect("points are of years 1970 to 9999"),
            lat: point.lat,
            lon: point.lon,
            altitude_m: point.altitude_m,
            speed_mps: point.speed_mps,
            heading_deg: point.heading_deg,
            accuracy_m: point.accuracy_m,
            attributes: point.attributes.as_deref().and_then(|json| RawValue::from_string(json.to_owned()).ok()),
        }
    }
}
