//! Points into what is kept of hours. `distance_m` is along the points of an hour in the order of their time; the way from one hour into the
//! next is in neither.

use crate::points::Point;
use uuid::Uuid;

/// Of a sphere: as `points_distance` in SQL has it, which goes on from what is summed here.
const EARTH_RADIUS_M: f64 = 6_371_008.8;
const HOUR_US: i64 = 3_600_000_000;

/// Where a point was, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub(crate) at_us: i64,
    pub(crate) lat: f64,
    pub(crate) lon: f64,
}

/// What new points add to an hour of a track.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HourFold {
    pub(crate) track_id: Uuid,
    pub(crate) hour_us: i64,
    pub(crate) count: i64,
    pub(crate) speed_count: i64,
    pub(crate) speed_sum: f64,
    pub(crate) speed_min: Option<f64>,
    pub(crate) speed_max: Option<f64>,
    pub(crate) distance_m: f64,
    pub(crate) west: f64,
    pub(crate) south: f64,
    pub(crate) east: f64,
    pub(crate) north: f64,
    pub(crate) first: Place,
    pub(crate) last: Place,
}

/// A track's hour that a point belongs to.
pub(super) fn hour_of(point: &Point<'_>) -> (Uuid, i64) {
    (point.track_id.0, hour_start(point.recorded_at_us))
}

pub(super) fn hour_start(at_us: i64) -> i64 {
    at_us - at_us.rem_euclid(HOUR_US)
}

/// `points` are in the order of track and time.
pub(super) fn fold(points: &[&Point<'_>]) -> Vec<HourFold> {
    points.chunk_by(|one, next| hour_of(one) == hour_of(next)).map(fold_hour).collect()
}

fn fold_hour(points: &[&Point<'_>]) -> HourFold {
    let (track_id, hour_us) = hour_of(points[0]);
    let first = place(points[0]);
    let mut hour = HourFold {
        track_id,
        hour_us,
        count: 0,
        speed_count: 0,
        speed_sum: 0.0,
        speed_min: None,
        speed_max: None,
        distance_m: 0.0,
        west: first.lon,
        south: first.lat,
        east: first.lon,
        north: first.lat,
        first,
        last: first,
    };
    for point in points {
        let place = place(point);
        hour.count += 1;
        hour.distance_m += distance_m(hour.last, place);
        hour.last = place;
        (hour.west, hour.east) = (hour.west.min(place.lon), hour.east.max(place.lon));
        (hour.south, hour.north) = (hour.south.min(place.lat), hour.north.max(place.lat));
        if let Some(speed) = point.speed_mps {
            hour.speed_count += 1;
            hour.speed_sum += speed;
            hour.speed_min = Some(hour.speed_min.map_or(speed, |least| least.min(speed)));
            hour.speed_max = Some(hour.speed_max.map_or(speed, |most| most.max(speed)));
        }
    }
    hour
}

fn place(point: &Point<'_>) -> Place {
    Place { at_us: point.recorded_at_us, lat: point.lat, lon: point.lon }
}

/// Haversine.
fn distance_m(from: Place, to: Place) -> f64 {
    if (from.lat, from.lon) == (to.lat, to.lon) {
        return 0.0;
    }
    let half_lat = ((to.lat - from.lat).to_radians() / 2.0).sin();
    let half_lon = ((to.lon - from.lon).to_radians() / 2.0).sin();
    let chord = half_lat * half_lat + from.lat.to_radians().cos() * to.lat.to_radians().cos() * half_lon * half_lon;
    2.0 * EARTH_RADIUS_M * chord.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TrackId;

    fn point(at_us: i64, lat: f64, lon: f64, speed_mps: Option<f64>) -> Point<'static> {
        let track_id = TrackId(Uuid::from_u128(7));
        Point {
            track_id,
            recorded_at_us: at_us,
            lat,
            lon,
            altitude_m: None,
            speed_mps,
            heading_deg: None,
            accuracy_m: None,
            attributes: None,
        }
    }

    #[test]
    fn hours_are_folded_each_by_itself() {
        let points = [point(0, 0.0, 0.0, None), point(1, 0.0, 1.0, Some(3.0)), point(HOUR_US, 1.0, 1.0, Some(5.0))];
        let hours = fold(&points.iter().collect::<Vec<_>>());
        assert_eq!(
            hours.iter().map(|hour| (hour.hour_us, hour.count, hour.speed_sum)).collect::<Vec<_>>(),
            [(0, 2, 3.0), (HOUR_US, 1, 5.0)]
        );
        // A degree of the equator.
        assert!((hours[0].distance_m - 111_195.08).abs() < 0.01, "{}", hours[0].distance_m);
        assert_eq!((hours[0].west, hours[0].east, hours[1].distance_m), (0.0, 1.0, 0.0));
    }
}
