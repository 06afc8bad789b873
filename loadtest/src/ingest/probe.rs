//! How long a point takes from its answer until it can be read: single points are sent beside the load, one after the other, and looked for.
//!
//! A point that was accepted now waits behind all that was accepted before it, as any other does; so these tell of the load's points too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::Request;
use crate::control::Control;
use crate::error::Error;
use crate::generator::new_histogram;

/// Points that are on their way at the same time, each with a thread and a connection.
const N_PROBES: usize = 2;
/// Between two looks: the figures are as exact as this.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a probe needs to know.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) peer: SocketAddr,
    pub(super) authority: String,
    pub(super) token: String,
    /// Tracks that nobody else sends points of, in turns.
    pub(super) tracks: Vec<String>,
    /// A point that is not there by then is lost.
    pub(super) within: Duration,
}

/// Points that are being sent and looked for.
#[derive(Debug)]
pub(super) struct Probes {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Histogram<u64>, Error>>>,
}

impl Probes {
    pub(super) fn start(target: &Target) -> Result<Self, Error> {
        let mut probes = Self { is_over: Arc::default(), threads: Vec::with_capacity(N_PROBES) };
        for tracks in target.tracks.chunks(target.tracks.len().div_ceil(N_PROBES)) {
            let (target, is_over) = (Target { tracks: tracks.to_vec(), ..target.clone() }, Arc::clone(&probes.is_over));
            let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(move || probe(&target, &is_over));
            probes.threads.push(thread.map_err(Error::failed)?);
        }
        Ok(probes)
    }

    /// Ends with the points under way, and tells how long each took.
    pub(super) fn finish(self) -> Result<Histogram<u64>, Error> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = new_histogram();
        for thread in self.threads {
            let took = thread.join().map_err(|_| Error::failed("a thread that looks for points ended unexpectedly"))??;
            all.add(took).map_err(Error::failed)?;
        }
        Ok(all)
    }
}

fn probe(target: &Target, is_over: &AtomicBool) -> Result<Histogram<u64>, Error> {
    let mut control = Control::new(target.peer, &target.authority)?;
    let mut took = new_histogram();
    let begin = OffsetDateTime::now_utc().replace_nanosecond(0).map_err(Error::failed)?;
    let mut at = begin;
    while !is_over.load(Ordering::Relaxed) {
        at += time::Duration::SECOND;
        let recorded_at = at.format(&Rfc3339).map_err(Error::failed)?;
        for track in &target.tracks {
            let point = json!({"track_id": track, "recorded_at": recorded_at, "lat": 1.0, "lon": 1.0});
            control.expect(202, "sending a point", &Request::post_json("/api/v1/points", &point).with_bearer(&target.token))?;
            let accepted = Instant::now();
            until_readable(&mut control, target, track, &recorded_at)?;
            took.saturating_record(u64::try_from(accepted.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
    }
    Ok(took)
}

fn until_readable(control: &mut Control, target: &Target, track: &str, recorded_at: &str) -> Result<(), Error> {
    let newest = Request::get(format!("/api/v1/tracks/{track}/points?limit=1")).with_bearer(&target.token);
    let deadline = Instant::now() + target.within;
    loop {
        let page = control.expect(200, "looking for a point", &newest)?;
        if page["items"][0]["recorded_at"] == recorded_at {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::failed(format!("a point was accepted and could not be read within {} s", target.within.as_secs_f64())));
        }
        control.pause(LOOK_EVERY);
    }
}
