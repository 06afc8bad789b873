//! From what a caller sent to a [`Point`]: every rule in one place, whatever form the point came in.

use super::{ATTRIBUTES_BYTES, Point, time};
use crate::{Code, Error, FieldError, Result, ids::TrackId, jobs::raw_json};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, ops::RangeInclusive};
use uuid::Uuid;

/// A point as it is sent, nothing of it allocated; unknown fields are refused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPoint<'a> {
    /// May be absent where the request names the track.
    pub track_id: Option<Uuid>,
    #[serde(borrow)]
    pub recorded_at: Option<Text<'a>>,
    pub lat: Option<f64>,
    pub lon: Option<f64>,
    pub altitude_m: Option<f64>,
    pub speed_mps: Option<f64>,
    pub heading_deg: Option<f64>,
    pub accuracy_m: Option<f64>,
    #[serde(borrow)]
    pub attributes: Option<&'a RawValue>,
}

/// Text that is borrowed unless it has escapes. (Of a bare `Option<Cow<str>>` serde makes a copy.)
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// What the numbers may be: each name with its range.
const LAT: RangeInclusive<f64> = -90.0..=90.0;
const LON: RangeInclusive<f64> = -180.0..=180.0;
/// What is nearer to zero is zero: a ten-millionth of a metre. PostgreSQL refuses the squares of much smaller numbers.
const LEAST_DEG: f64 = 1e-12;
/// Below the deepest sea, and above where there is air.
const ALTITUDE_M: RangeInclusive<f64> = -12_000.0..=1_000_000.0;
/// Beyond what leaves the Earth for good.
const SPEED_MPS: RangeInclusive<f64> = 0.0..=20_000.0;
const HEADING_DEG: RangeInclusive<f64> = 0.0..=360.0;
/// Half of the way around the Earth: nothing is less accurate.
const ACCURACY_M: RangeInclusive<f64> = 0.0..=20_100_000.0;

impl<'a> RawPoint<'a> {
    /// The point, or every rule that it breaks. `of_track` is the track that the request names.
    pub fn check(self, of_track: Option<TrackId>) -> Result<Point<'a>> {
        let mut broken = Vec::new();
        let track_id = match (self.track_id.map(TrackId), of_track) {
            (Some(own), Some(named)) if own != named => {
                broken.push(field("/track_id", "other_track", "is not the track that the request names"));
                None
            }
            (Some(id), _) | (None, Some(id)) => Some(id),
            (None, None) => {
                broken.push(field("/track_id", "required", "must be there"));
                None
            }
        };
        let recorded_at_us = match &self.recorded_at {
            Some(text) => time::parse(&text.0).or_else(|| {
                broken.push(field("/recorded_at", "time", "must be an RFC 3339 instant within years 1970 to 9999"));
                None
            }),
            None => {
                broken.push(field("/recorded_at", "required", "must be there"));
                None
            }
        };
        for (pointer, value) in [("/lat", self.lat), ("/lon", self.lon)] {
            if value.is_none() {
                broken.push(field(pointer, "required", "must be there"));
            }
        }
        for (pointer, value, range) in [
            ("/lat", self.lat, LAT),
            ("/lon", self.lon, LON),
            ("/altitude_m", self.altitude_m, ALTITUDE_M),
            ("/speed_mps", self.speed_mps, SPEED_MPS),
            ("/heading_deg", self.heading_deg, HEADING_DEG),
            ("/accuracy_m", self.accuracy_m, ACCURACY_M),
        ] {
            // What is no number is in no range.
            if value.is_some_and(|value| !range.contains(&value)) {
                broken.push(field(pointer, "range", format!("must be {} to {}", range.start(), range.end())));
            }
        }
        if let Some(attributes) = self.attributes {
            check_attributes(attributes, &mut broken);
        }
        match (track_id, recorded_at_us, self.lat, self.lon) {
            (Some(track_id), Some(recorded_at_us), Some(lat), Some(lon)) if broken.is_empty() => Ok(Point {
                track_id,
                recorded_at_us,
                lat: or_zero(lat),
                lon: or_zero(lon),
                altitude_m: self.altitude_m,
                speed_mps: self.speed_mps,
                heading_deg: self.heading_deg,
                accuracy_m: self.accuracy_m,
                attributes: self.attributes.map(|attributes| Cow::Borrowed(attributes.get())),
            }),
            _ => {
                let mut error = Error::new(Code::ValidationFailed, "The point breaks a rule.");
                error.fields = broken;
                Err(error)
            }
        }
    }
}

fn or_zero(degrees: f64) -> f64 {
    if degrees.abs() < LEAST_DEG { 0.0 } else { degrees }
}

fn check_attributes(attributes: &RawValue, broken: &mut Vec<FieldError>) {
    if !attributes.get().starts_with('{') {
        broken.push(field("/attributes", "object", "must be an object"));
    } else if let Err(error) = raw_json::check(attributes.get(), "attributes", ATTRIBUTES_BYTES) {
        broken.extend(error.fields);
    }
}

fn field(pointer: &str, code: &str, detail: impl Into<String>) -> FieldError {
    FieldError { pointer: pointer.to_owned(), code: code.to_owned(), detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const TRACK: TrackId = TrackId(Uuid::from_u128(7));

    fn broken(json: &str) -> Vec<String> {
        let raw: RawPoint<'_> = serde_json::from_str(json).expect("it has the shape of a point");
        raw.check(Some(TRACK)).map_or_else(|error| error.fields.into_iter().map(|field| field.pointer).collect(), |_| Vec::new())
    }

    #[rstest]
    #[case::least(r#"{"recorded_at":"2026-11-21T10:00:00Z","lat":0,"lon":0}"#, &[])]
    #[case::at_the_edges(r#"{"recorded_at":"2026-11-21T10:00:00Z","lat":-90,"lon":180,"heading_deg":360,"speed_mps":0}"#, &[])]
    #[case::escaped(r#"{"recorded_at":"2026-11-21T10:00:00\u005a","lat":0,"lon":0}"#, &[])]
    #[case::nothing("{}", &["/recorded_at", "/lat", "/lon"])]
    #[case::out_of_range(r#"{"recorded_at":"2026-11-21T10:00:00Z","lat":90.1,"lon":-181,"speed_mps":-1}"#, &["/lat", "/lon", "/speed_mps"])]
    #[case::year_10000(r#"{"recorded_at":"10000-01-01T00:00:00Z","lat":0,"lon":0}"#, &["/recorded_at"])]
    #[case::other_track(r#"{"track_id":"00000000-0000-0000-0000-000000000008","recorded_at":"2026-11-21T10:00:00Z","lat":0,"lon":0}"#, &["/track_id"])]
    #[case::attributes_no_object(r#"{"recorded_at":"2026-11-21T10:00:00Z","lat":0,"lon":0,"attributes":[1]}"#, &["/attributes"])]
    #[case::attributes_nul(r#"{"recorded_at":"2026-11-21T10:00:00Z","lat":0,"lon":0,"attributes":{"a":"\u0000"}}"#, &["/attributes"])]
    fn every_broken_rule_is_told(#[case] json: &str, #[case] pointers: &[&str]) {
        assert_eq!(broken(json), pointers);
    }

    #[test]
    fn attributes_have_a_size() {
        let json = |n| format!(r#"{{"recorded_at":"2026-11-21T10:00:00Z","lat":0,"lon":0,"attributes":{{"a":"{}"}}}}"#, "x".repeat(n));
        assert!(broken(&json(1_000)).is_empty());
        assert_eq!(broken(&json(1_020)), ["/attributes"]);
    }

    #[rstest]
    #[case(1e-239, 0.0)]
    #[case(-5e-324, 0.0)]
    #[case(-1e-12, -1e-12)]
    #[case(90.0, 90.0)]
    fn coordinates_have_a_least_one(#[case] sent: f64, #[case] kept: f64) {
        let recorded_at = Some(Text("2026-11-21T10:00:00Z".into()));
        let raw = RawPoint { recorded_at, lat: Some(sent), lon: Some(sent), ..RawPoint::default() };
        let point = raw.check(Some(TRACK)).unwrap();
        assert_eq!((point.lat, point.lon), (kept, kept));
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        let raw = RawPoint { lat: Some(f64::NAN), lon: Some(f64::INFINITY), ..RawPoint::default() };
        let fields: Vec<String> = raw.check(None).unwrap_err().fields.into_iter().map(|field| field.pointer).collect();
        assert_eq!(fields, ["/track_id", "/recorded_at", "/lat", "/lon"]);
    }
}
