//! Requests with points, made before the run: each point is of another track or time.

use std::fmt::Write;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::Request;
use crate::error::Error;

/// What the points are of.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) tracks: &'a [String],
    pub(super) begin: OffsetDateTime,
    pub(super) every: Duration,
    pub(super) batch: u32,
    pub(super) token: &'a str,
    pub(super) authority: &'a str,
}

impl Source<'_> {
    /// The first `n` requests; later ones hold later points.
    pub(super) fn requests(&self, n: u64) -> Result<Vec<Box<[u8]>>, Error> {
        (0..n).map(|request_idx| self.request(request_idx)).collect()
    }

    fn request(&self, request_idx: u64) -> Result<Box<[u8]>, Error> {
        let first = request_idx * u64::from(self.batch);
        let points = (first..first + u64::from(self.batch)).map(|at| self.point(at));
        let body = match self.batch {
            1 => points.collect::<String>(),
            _ => format!("{{\"points\":[{}]}}", points.collect::<Vec<_>>().join(",")),
        };
        let mut request = Request::post_json("/api/v1/points", &serde_json::Value::Null).with_bearer(self.token);
        request.body = body.into_bytes();
        request.to_bytes(self.authority).map_err(Error::usage)
    }

    fn point(&self, at: u64) -> String {
        let n_tracks = self.tracks.len() as u64;
        let track = usize::try_from(at % n_tracks).expect("below the number of tracks");
        let of_track = u32::try_from(at / n_tracks).unwrap_or(u32::MAX);
        let recorded_at = (self.begin + self.every * of_track).format(&Rfc3339).unwrap_or_default();
        let lat = 40.0 + track as f64 / 100.0 + f64::from(of_track) * 0.00001;
        let mut point = String::with_capacity(160);
        let (speed, heading) = (of_track % 30, of_track % 360);
        write!(
            point,
            "{{\"track_id\":\"{}\",\"recorded_at\":\"{recorded_at}\",\"lat\":{lat:.6},\"lon\":13.405,\"speed_mps\":{speed}.5,\"heading_deg\":{heading}}}",
            self.tracks[track]
        )
        .expect("a string takes all that is written");
        point
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_point_is_of_another_track_or_time() {
        let tracks = ["a".to_owned(), "b".to_owned()];
        let source = Source {
            tracks: &tracks,
            begin: OffsetDateTime::UNIX_EPOCH,
            every: Duration::from_secs(1),
            batch: 3,
            token: "t",
            authority: "h",
        };
        let requests = source.requests(2).unwrap_or_default();
        let text = requests.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect::<String>();
        let keys: BTreeSet<&str> = text.split("\"track_id\":").skip(1).filter_map(|point| point.split("\"lat\"").next()).collect();
        assert_eq!(keys.len(), 6, "{text}");
    }
}
