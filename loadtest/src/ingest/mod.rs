//! `millrace-loadtest ingest`: points accepted and stored per second, each run with a ledger of its points.
//!
//! `args` is the command line · `requests` makes what is sent · `platform` is asked for the rest · `probe` sends single points and looks for them ·
//! `report` is the result · `importing` measures a job, `moving` nothing.

mod args;
mod importing;
mod moving;
mod platform;
mod probe;
mod report;
mod requests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use time::OffsetDateTime;

pub(crate) use self::platform::Platform;
use self::probe::{Probes, Target};
use self::requests::Source;
use crate::address::Ownership;
use crate::client::BodyRule;
use crate::control::Control;
use crate::error::Error;
use crate::generator::{self, Budget, Harvest, Pace, Plan, Progress, SourceAddresses};
use crate::http::{Figures, Percentiles, Usages};
use crate::machine;
use crate::output::Output;
use crate::process_tree::{TreeUsage, TreeWatch, pids_of};
use crate::provenance::Provenance;
use crate::session::Need;

pub use self::args::{AcceptArgs, FlowArgs, ImportArgs, IngestArgs, Measure, MoveArgs, StoreArgs};
pub use self::report::{IngestReport, IngestRun};

/// Tracks of a run unless the command line says otherwise.
const TRACKS: u32 = 100;
/// Requests that an accept run sends in rotation.
const ROTATION: u64 = 64;
/// Longer than any budget takes.
const LONGEST: Duration = Duration::from_secs(600);
/// Warm-up of a run that has none: every run needs a moment to begin together.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Tracks of the single points that are looked for: enough that they are of all shards.
const PROBED_TRACKS: u32 = 16;

/// Does what `args` ask for; what is measured in runs has a report. A ledger that does not balance is an error, told after the figures.
pub fn run(args: &IngestArgs, output: &mut Output<'_>) -> Result<Option<IngestReport>, Error> {
    if args.quiet {
        output.be_quiet();
    }
    let ownership = if args.i_own_this_host { Ownership::Claimed } else { Ownership::Unclaimed };
    let peer = args.url.resolve(ownership)?;
    let control = Control::new(peer, &args.url.authority())?;
    let mut platform = Platform::new(control, args.account.identity(Need::Somebody)?);
    match &args.measure {
        Measure::Accept(how) => measure(Site { args, peer, platform }, output, |site, tracks| site.accept(how, tracks)),
        Measure::Store(how) => measure(Site { args, peer, platform }, output, |site, tracks| site.store(how, tracks)),
        Measure::Flow(how) => measure(Site { args, peer, platform }, output, |site, tracks| site.flow(how, tracks)),
        Measure::Import(how) => importing::run(args, how, peer, &mut platform, output).map(|()| None),
        Measure::Move(how) => moving::run(args, how, &mut platform, output).map(|()| None),
    }
}

/// One run of a measure, on these tracks.
type MakeRun<'m> = dyn Fn(&mut Site<'_>, &[String]) -> Result<IngestRun, Error> + 'm;

/// Makes the runs, writes the table, and the JSON file where one is named.
fn measure(
    mut site: Site<'_>,
    output: &mut Output<'_>,
    make_run: impl Fn(&mut Site<'_>, &[String]) -> Result<IngestRun, Error>,
) -> Result<Option<IngestReport>, Error> {
    let args = site.args;
    let report = measure_all(&mut site, output, &make_run)?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).map_err(Error::failed)?;
        std::fs::write(path, json + "\n").map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    for line in report::lines(&report) {
        output.result(&line)?;
    }
    match report.runs.iter().all(|run| run.is_balanced) {
        true => Ok(Some(report)),
        false => Err(Error::failed("the ledger does not balance")),
    }
}

fn measure_all(site: &mut Site<'_>, output: &mut Output<'_>, make_run: &MakeRun<'_>) -> Result<IngestReport, Error> {
    let args = site.args;
    machine::allow_connections(site.connections())?;
    let mut runs = Vec::with_capacity(args.repeat as usize);
    for run_idx in 0..args.repeat {
        let tracks = site.platform.make_tracks(site.n_tracks(), "loadtest")?;
        let run = make_run(site, &tracks)?;
        if !args.keep {
            site.platform.delete_tracks(&tracks)?;
        }
        output.note(&format!("run {} of {}: {:.0} points/s", run_idx + 1, args.repeat, run.points_per_s))?;
        runs.push(run);
    }
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by(|a, b| runs[*a].points_per_s.total_cmp(&runs[*b].points_per_s));
    Ok(IngestReport { provenance: Provenance::here(), batch: args.batch, median: order[(runs.len() - 1) / 2], runs })
}

/// What a run needs of its command.
struct Site<'a> {
    args: &'a IngestArgs,
    peer: SocketAddr,
    platform: Platform,
}

impl Site<'_> {
    fn connections(&self) -> u32 {
        self.args.connections.unwrap_or(if self.args.batch == 1 { 100 } else { 4 })
    }

    fn n_tracks(&self) -> u32 {
        self.args.tracks.unwrap_or(TRACKS)
    }

    fn accept(&mut self, args: &AcceptArgs, tracks: &[String]) -> Result<IngestRun, Error> {
        let load = Load { warmup: args.warmup, duration: args.duration, ..Load::of(ROTATION) };
        let sent = self.send(tracks, &load)?;
        let points_per_s = sent.figures.per_second * f64::from(self.args.batch);
        let elapsed_s = args.duration.as_secs_f64();
        Ok(IngestRun {
            points: (points_per_s * elapsed_s).round() as u64,
            elapsed_s,
            points_per_s,
            accepted_per_s: None,
            stored: None,
            readable_ms: None,
            n_probes: 0,
            is_balanced: true,
            requests: sent.figures,
            processes: sent.processes,
        })
    }

    fn store(&mut self, args: &StoreArgs, tracks: &[String]) -> Result<IngestRun, Error> {
        let n_requests = u64::from(args.points.div_ceil(self.args.batch));
        let before = self.platform.n_stored()?;
        if let Some(pid) = args.hold {
            signal(pid, Signal::SIGSTOP)?;
        }
        let mut trees = TreeWatch::begin(&self.args.server_pid);
        let load = Load { budget: Some(Budget::new(n_requests)), backwards: args.backwards, ..Load::of(n_requests) };
        let sent = self.send(tracks, &load);
        let released = Instant::now();
        if let Some(pid) = args.hold {
            signal(pid, Signal::SIGCONT)?;
            trees = TreeWatch::begin(&self.args.server_pid);
        }
        let sent = sent?;
        let begun = if args.hold.is_some() { released } else { sent.launched };
        // Each request is sent once, some before the measured time begins: figures alone would leave those out.
        let n_points = n_requests * u64::from(self.args.batch);
        self.platform.until_stored(before + n_points, Instant::now() + args.within, || trees.sample())?;
        let elapsed_s = begun.elapsed().as_secs_f64();
        let stored = self.platform.n_stored_of(tracks)?;
        Ok(IngestRun {
            points: n_points,
            elapsed_s,
            points_per_s: n_points as f64 / elapsed_s,
            accepted_per_s: Some(n_points as f64 / sent.elapsed.as_secs_f64()),
            stored: Some(stored),
            readable_ms: None,
            n_probes: 0,
            is_balanced: stored == n_points && sent.figures.errors.total == 0,
            requests: sent.figures,
            processes: trees.finish(n_points),
        })
    }

    fn flow(&mut self, args: &FlowArgs, tracks: &[String]) -> Result<IngestRun, Error> {
        let rate_per_s = f64::from(args.rate) / f64::from(self.args.batch);
        // One more than are due: rounding may have it either way.
        let n_requests = (rate_per_s * (args.duration + AT_ONCE).as_secs_f64()).ceil() as u64 + 1;
        let budget = Budget::new(n_requests);
        let pace = Pace::Open { rate_per_s, max_waiting: n_requests };
        let probed = self.platform.make_tracks(PROBED_TRACKS, "probed")?;
        let load = Load {
            duration: args.duration,
            pace,
            budget: Some(budget.clone()),
            probed: Some((&probed[..], args.within)),
            ..Load::of(n_requests)
        };
        let sent = self.send(tracks, &load)?;
        let n_points = (n_requests - budget.left()) * u64::from(self.args.batch);
        let stored = self.platform.until_stored_of(tracks, n_points, Instant::now() + args.within)?;
        let elapsed_s = sent.launched.elapsed().as_secs_f64();
        if !self.args.keep {
            self.platform.delete_tracks(&probed)?;
        }
        Ok(IngestRun {
            points: n_points,
            elapsed_s,
            points_per_s: n_points as f64 / elapsed_s,
            accepted_per_s: Some(n_points as f64 / sent.elapsed.as_secs_f64()),
            stored: Some(stored),
            readable_ms: sent.readable.as_ref().and_then(Percentiles::of),
            n_probes: sent.readable.as_ref().map_or(0, Histogram::len),
            is_balanced: stored == n_points && sent.figures.errors.total == 0,
            requests: sent.figures,
            processes: sent.processes,
        })
    }

    fn send(&mut self, tracks: &[String], load: &Load<'_>) -> Result<Sent, Error> {
        let token = self.platform.token(load.warmup + load.duration + self.args.timeout)?;
        let authority = self.args.url.authority();
        let plan = Arc::new(Plan {
            peer: self.peer,
            requests: self.requests(tracks, load, &token)?,
            body_rule: BodyRule::Expected,
            connections: self.connections(),
            threads: self.args.threads,
            pace: load.pace,
            warmup: load.warmup,
            duration: load.duration,
            timeout: self.args.timeout,
            sources: SourceAddresses::for_run(self.peer, self.connections(), 0),
            budget: load.budget.clone(),
            harvest: Harvest::Nothing,
        });
        let probes = match load.probed {
            Some((tracks, within)) => Some(Probes::start(&Target { peer: self.peer, authority, token, tracks: tracks.to_vec(), within })?),
            None => None,
        };
        let mut trees = None;
        let mut launched = Instant::now();
        let mut observe = |seen: Progress| match seen {
            Progress::WarmingUp => launched = Instant::now(),
            Progress::Measuring { .. } => trees = Some(TreeWatch::begin(&self.args.server_pid)),
            Progress::Running { .. } => trees.iter_mut().for_each(TreeWatch::sample),
            Progress::Ended => {}
        };
        let load = generator::run(&plan, &mut observe).map_err(Error::failed);
        let readable = probes.map(Probes::finish).transpose()?;
        let load = load?;
        let elapsed = load.recorder.last_ok_at.map_or_else(|| launched.elapsed(), |at| at.saturating_duration_since(launched));
        let n_points = load.recorder.ok_in_window * u64::from(self.args.batch);
        let processes = trees.map_or_else(Vec::new, |trees| trees.finish(n_points));
        let figures = Figures::of(&plan, load, Usages { server: None, generator: None });
        Ok(Sent { figures, processes, launched, elapsed, readable })
    }

    fn requests(&self, tracks: &[String], load: &Load<'_>, token: &str) -> Result<Vec<Box<[u8]>>, Error> {
        let per_track = load.n_requests * u64::from(self.args.batch) / u64::from(self.n_tracks()) + 1;
        let begin = OffsetDateTime::now_utc() - self.args.every * u32::try_from(per_track).map_err(Error::usage)?;
        let authority = self.args.url.authority();
        let source = Source { tracks, begin, every: self.args.every, batch: self.args.batch, token, authority: &authority };
        let mut requests = source.requests(load.n_requests)?;
        if load.backwards {
            requests.reverse();
        }
        Ok(requests)
    }
}

/// What is sent, and how.
struct Load<'a> {
    n_requests: u64,
    warmup: Duration,
    duration: Duration,
    pace: Pace,
    /// Sends each request once, in their order.
    budget: Option<Budget>,
    backwards: bool,
    /// Tracks of which single points are sent beside it and looked for, and how long a look may take.
    probed: Option<(&'a [String], Duration)>,
}

impl Load<'_> {
    /// So many requests, as fast as they are answered, for as long as that takes.
    fn of(n_requests: u64) -> Self {
        Self { n_requests, warmup: AT_ONCE, duration: LONGEST, pace: Pace::Closed, budget: None, backwards: false, probed: None }
    }
}

/// What became of it.
struct Sent {
    figures: Figures,
    processes: Vec<TreeUsage>,
    launched: Instant,
    /// From the first request to the last answer.
    elapsed: Duration,
    /// How long single points took from their answer until they could be read.
    readable: Option<Histogram<u64>>,
}

/// To a process and all below it.
fn signal(pid: u32, signal: Signal) -> Result<(), Error> {
    for pid in pids_of(pid) {
        let pid = i32::try_from(pid).map_err(Error::usage)?;
        kill(Pid::from_raw(pid), signal).map_err(|error| Error::failed(format!("cannot send {signal} to {pid}: {error}")))?;
    }
    Ok(())
}
