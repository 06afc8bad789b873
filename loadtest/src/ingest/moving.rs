//! Tracks that are driven around a town, for people to look at: nothing is measured.

use std::f64::consts::TAU;
use std::time::Instant;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::args::{IngestArgs, MoveArgs};
use super::platform::Platform;
use crate::error::Error;
use crate::output::Output;

/// Tracks unless the command line says otherwise.
const TRACKS: u32 = 12;
/// The middle of the town.
const LAT: f64 = 52.5200;
const LON: f64 = 13.4050;
/// Half its width.
const TOWN_M: f64 = 2_200.0;
const METRES_OF_A_DEGREE: f64 = 111_195.0;
/// How long the tracks have been on their way when the first point is sent, so that they have trails.
const BEFORE_S: i64 = 240;
/// Between two points of that time.
const BEFORE_STEP_S: usize = 3;
/// Points of one request.
const BATCH: usize = 5_000;

/// Sends a point of every track, again and again, until the time is over or Ctrl-C is pressed.
pub(super) fn run(args: &IngestArgs, how: &MoveArgs, platform: &mut Platform, output: &mut Output<'_>) -> Result<(), Error> {
    let ids = platform.make_tracks(args.tracks.unwrap_or(TRACKS), "Bus")?;
    let routes: Vec<Route> = (0..ids.len()).map(Route::new).collect();
    output.note(&format!("{} tracks move; see http://{}/examples/live. Ctrl-C ends it.", ids.len(), args.url.authority()))?;
    let moved = send_trails(platform, &ids, &routes).and_then(|()| drive(args, how, platform, &ids, &routes));
    if !args.keep {
        platform.delete_tracks(&ids)?;
    }
    moved
}

fn send_trails(platform: &mut Platform, ids: &[String], routes: &[Route]) -> Result<(), Error> {
    let now = OffsetDateTime::now_utc();
    let mut points = Vec::new();
    for second in (-BEFORE_S..0).step_by(BEFORE_STEP_S) {
        let at = (now + time::Duration::seconds(second)).format(&Rfc3339).map_err(Error::failed)?;
        points.extend(ids.iter().zip(routes).map(|(id, route)| route.point(id, &at, second as f64)));
    }
    points.chunks(BATCH).try_for_each(|points| platform.send_points(&json!({ "points": points })))
}

fn drive(args: &IngestArgs, how: &MoveArgs, platform: &mut Platform, ids: &[String], routes: &[Route]) -> Result<(), Error> {
    let begun = Instant::now();
    let mut due = begun;
    while begun.elapsed() < how.time {
        let now = OffsetDateTime::now_utc().format(&Rfc3339).map_err(Error::failed)?;
        let seconds = begun.elapsed().as_secs_f64();
        let points: Vec<Value> = ids.iter().zip(routes).map(|(id, route)| route.point(id, &now, seconds)).collect();
        platform.send_points(&json!({ "points": points }))?;
        // What came too late is not made up for: a picture needs no more than the present.
        due = (due + args.every).max(Instant::now());
        if platform.pause_unless_interrupted(due.saturating_duration_since(Instant::now())) {
            break;
        }
    }
    Ok(())
}

/// A closed way: a circle with dents.
#[derive(Debug)]
struct Route {
    middle_m: (f64, f64),
    radius_m: f64,
    dents: [(f64, f64); 2],
    /// Of a round, negative for those that drive the other way.
    seconds: f64,
    /// Where it begins, in rounds.
    begins: f64,
}

impl Route {
    /// Each of its own, and the same in every run.
    fn new(track_idx: usize) -> Self {
        // The fractions of multiples of an irrational number are spread evenly.
        let share = |salt: f64| ((track_idx as f64 + 1.0) * salt).fract();
        let [a, b, c, d, e] = [0.618_034, 0.754_878, 0.569_840, 0.819_173, 0.671_044].map(share);
        let radius_m = 350.0 + 650.0 * a;
        let speed_mps = 7.0 + 9.0 * b;
        let seconds = TAU * radius_m / speed_mps;
        Self {
            middle_m: ((c * 2.0 - 1.0) * TOWN_M, (d * 2.0 - 1.0) * TOWN_M * 0.6),
            radius_m,
            dents: [(0.12 + 0.18 * e, TAU * d), (0.06 + 0.1 * c, TAU * a)],
            seconds: if track_idx.is_multiple_of(2) { seconds } else { -seconds },
            begins: e,
        }
    }

    /// Metres east and north of the middle of the town.
    fn place_m(&self, seconds: f64) -> (f64, f64) {
        let angle = TAU * (self.begins + seconds / self.seconds);
        let [(second, second_at), (third, third_at)] = self.dents;
        let radius_m = self.radius_m * (1.0 + second * (2.0 * angle + second_at).sin() + third * (3.0 * angle + third_at).sin());
        (self.middle_m.0 + radius_m * angle.cos(), self.middle_m.1 + radius_m * angle.sin())
    }

    fn point(&self, id: &str, now: &str, seconds: f64) -> Value {
        let ((x, y), (next_x, next_y)) = (self.place_m(seconds), self.place_m(seconds + 1.0));
        let (dx, dy) = (next_x - x, next_y - y);
        json!({
            "track_id": id,
            "recorded_at": now,
            "lat": LAT + y / METRES_OF_A_DEGREE,
            "lon": LON + x / (METRES_OF_A_DEGREE * LAT.to_radians().cos()),
            "speed_mps": dx.hypot(dy),
            "heading_deg": dx.atan2(dy).to_degrees().rem_euclid(360.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_go_around_at_the_speed_of_buses_and_come_back() {
        for track_idx in 0..100 {
            let route = Route::new(track_idx);
            let (x, y) = route.place_m(0.0);
            let (back_x, back_y) = route.place_m(route.seconds.abs());
            assert!((x - back_x).hypot(y - back_y) < 0.01, "{route:?}");
            for second in 0..300 {
                let point = route.point("id", "now", f64::from(second));
                let (lat, lon, speed) = (point["lat"].as_f64(), point["lon"].as_f64(), point["speed_mps"].as_f64());
                assert!(lat.is_some_and(|lat| (lat - LAT).abs() < 0.1) && lon.is_some_and(|lon| (lon - LON).abs() < 0.1), "{point}");
                assert!(speed.is_some_and(|speed| (1.0..40.0).contains(&speed)), "{point}");
            }
        }
    }
}
