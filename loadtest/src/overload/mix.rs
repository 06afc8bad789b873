//! The requests of the mix, in the order that a connection sends them: kinds alternate, so that no kind comes in bursts.

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::args::Mix;
use crate::client::{Request, shown_id};
use crate::error::Error;
use crate::generator::NUMBER_PLACE;
use crate::http::aim::echo_job;

/// What the mix is about.
pub(super) struct Subjects<'a> {
    /// Jobs that have ended, to read.
    pub(super) jobs: &'a [u128],
    pub(super) queue: &'a str,
    pub(super) tracks: &'a [String],
    /// Makes the keys of this command its own.
    pub(super) nonce: u128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Job,
    Points,
}

/// One request for each place of the round; reads go through all jobs over several rounds.
pub(super) fn requests(mix: Mix, rounds: usize, subjects: &Subjects<'_>) -> Result<Vec<Request>, Error> {
    let round = round(mix);
    let mut requests = Vec::with_capacity(round.len() * rounds);
    for idx in 0..round.len() * rounds {
        requests.push(match round[idx % round.len()] {
            Kind::Read => Request::get(format!("/api/v1/jobs/{}", shown_id(subjects.jobs[idx % subjects.jobs.len()]))),
            Kind::Job => job(idx, subjects),
            Kind::Points => points(idx, subjects)?,
        });
    }
    Ok(requests)
}

/// Deals the kinds out evenly: at each place the one that is furthest behind its share.
fn round(mix: Mix) -> Vec<Kind> {
    let shares = [(Kind::Read, mix.reads), (Kind::Job, mix.jobs), (Kind::Points, mix.points)];
    let n = (mix.reads + mix.jobs + mix.points) as usize;
    let mut dealt = [0_u32; 3];
    (0..n)
        .map(|place| {
            let behind = |kind: usize| f64::from(shares[kind].1) * (place + 1) as f64 / n as f64 - f64::from(dealt[kind]);
            let next = (0..3).max_by(|a, b| behind(*a).total_cmp(&behind(*b))).unwrap_or(0);
            dealt[next] += 1;
            shares[next].0
        })
        .collect()
}

fn job(idx: usize, subjects: &Subjects<'_>) -> Request {
    let mut job = echo_job(0);
    job["queue"] = subjects.queue.into();
    let mut request = Request::post_json("/api/v1/jobs", &job);
    request.headers.push(("Idempotency-Key".into(), format!("overload-{:x}-{idx}-{NUMBER_PLACE}", subjects.nonce)));
    request
}

/// A point of each track, all at one time: a second of its own for each request of the mix, and a microsecond for each time it is sent.
fn points(idx: usize, subjects: &Subjects<'_>) -> Result<Request, Error> {
    let ago = time::Duration::seconds(3_600 + i64::try_from(idx).unwrap_or(0));
    let second = (OffsetDateTime::now_utc() - ago).replace_nanosecond(0).map_err(Error::failed)?.format(&Rfc3339).map_err(Error::failed)?;
    let recorded_at = second.replace('Z', &format!(".{NUMBER_PLACE}Z"));
    let point = |track: &String| json!({"track_id": track, "recorded_at": "@", "lat": 52.5, "lon": 13.4, "speed_mps": 3.5});
    let body = json!({"points": subjects.tracks.iter().map(point).collect::<Vec<_>>()});
    // One place for the number: the request's, which all of its points share.
    let mut request = Request::post_json("/api/v1/points", &body);
    request.body = body.to_string().replace('@', &recorded_at).into_bytes();
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_alternate_in_their_shares() {
        use Kind::{Job, Points, Read};
        assert_eq!(round(Mix { reads: 2, jobs: 1, points: 0 }), [Read, Job, Read]);
        let dealt = round(Mix { reads: 6, jobs: 3, points: 1 });
        let count = |kind| dealt.iter().filter(|dealt| **dealt == kind).count();
        assert_eq!([count(Read), count(Job), count(Points)], [6, 3, 1]);
    }
}
