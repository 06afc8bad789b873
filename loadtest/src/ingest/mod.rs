//! `millrace-loadtest ingest`: points accepted and stored per second, each run with a ledger of its points.
//!
//! `args` is the command line · `requests` makes what is sent · `platform` is asked for the rest.

mod args;
mod platform;
mod requests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use time::OffsetDateTime;

use self::platform::Platform;
use self::requests::Source;
use crate::address::Ownership;
use crate::client::BodyRule;
use crate::columns::{aligned, dash, grouped, short_ms};
use crate::control::Control;
use crate::error::Error;
use crate::generator::{self, Budget, Harvest, Pace, Plan, Progress, SourceAddresses};
use crate::http::{Figures, Usages, masked};
use crate::machine::{self, Machine};
use crate::output::Output;
use crate::process_tree::{TreeUsage, TreeWatch, pids_of};
use crate::session::Need;

pub use self::args::{AcceptArgs, IngestArgs, Measure, StoreArgs};

/// Requests that an accept run sends in rotation.
const ROTATION: u64 = 64;
/// Longer than any budget takes.
const LONGEST: Duration = Duration::from_secs(600);
/// Warm-up of a run that has none: every run needs a moment to begin together.
const AT_ONCE: Duration = Duration::from_millis(1);

/// All runs of one measure, as it is written to JSON.
#[derive(Debug, Clone, Serialize)]
pub struct IngestReport {
    pub tool: &'static str,
    pub version: &'static str,
    /// The command line, secrets masked.
    pub command: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub date: OffsetDateTime,
    pub machine: Machine,
    pub batch: u32,
    /// Which of the runs is the one in the middle, from 0: by points per second.
    pub median: usize,
    pub runs: Vec<IngestRun>,
}

/// One run on tracks of its own.
#[derive(Debug, Clone, Serialize)]
pub struct IngestRun {
    pub points: u64,
    pub elapsed_s: f64,
    pub points_per_s: f64,
    /// Store: how fast the points were accepted; null otherwise.
    pub accepted_per_s: Option<f64>,
    /// Store: points of the run's tracks when it ended; null otherwise.
    pub stored: Option<u64>,
    pub is_balanced: bool,
    pub requests: Figures,
    /// The servers named by --server-pid. Per job means per point of this run.
    pub processes: Vec<TreeUsage>,
}

/// Measures what `args` ask for, writes the table, and the JSON file where one is named. A ledger that does not balance is an error, told after
/// the figures.
pub fn run(args: &IngestArgs, output: &mut Output<'_>) -> Result<IngestReport, Error> {
    if args.quiet {
        output.be_quiet();
    }
    let report = measure_all(args, output)?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).map_err(Error::failed)?;
        std::fs::write(path, json + "\n").map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    for line in lines(&report) {
        output.result(&line)?;
    }
    match report.runs.iter().all(|run| run.is_balanced) {
        true => Ok(report),
        false => Err(Error::failed("the ledger does not balance")),
    }
}

fn measure_all(args: &IngestArgs, output: &mut Output<'_>) -> Result<IngestReport, Error> {
    let ownership = if args.i_own_this_host { Ownership::Claimed } else { Ownership::Unclaimed };
    let peer = args.url.resolve(ownership)?;
    let control = Control::new(peer, &args.url.authority())?;
    let mut site = Site { args, peer, platform: Platform::new(control, args.account.identity(Need::Somebody)?) };
    machine::allow_connections(site.connections())?;
    let mut runs = Vec::with_capacity(args.repeat as usize);
    for run_idx in 0..args.repeat {
        let tracks = site.platform.make_tracks(args.tracks)?;
        let run = match &args.measure {
            Measure::Accept(accept) => site.accept(accept, &tracks)?,
            Measure::Store(store) => site.store(store, &tracks)?,
        };
        if !args.keep {
            site.platform.delete_tracks(&tracks)?;
        }
        output.note(&format!("run {} of {}: {:.0} points/s", run_idx + 1, args.repeat, run.points_per_s))?;
        runs.push(run);
    }
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by(|a, b| runs[*a].points_per_s.total_cmp(&runs[*b].points_per_s));
    Ok(IngestReport {
        tool: "millrace-loadtest",
        version: env!("CARGO_PKG_VERSION"),
        command: masked(std::env::args()),
        date: OffsetDateTime::now_utc(),
        machine: Machine::read(),
        batch: args.batch,
        median: order[(runs.len() - 1) / 2],
        runs,
    })
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

    fn accept(&mut self, args: &AcceptArgs, tracks: &[String]) -> Result<IngestRun, Error> {
        let (figures, processes, _) = self.send(tracks, ROTATION, (args.warmup, args.duration), None)?;
        let points_per_s = figures.per_second * f64::from(self.args.batch);
        let elapsed_s = args.duration.as_secs_f64();
        Ok(IngestRun {
            points: (points_per_s * elapsed_s).round() as u64,
            elapsed_s,
            points_per_s,
            accepted_per_s: None,
            stored: None,
            is_balanced: true,
            requests: figures,
            processes,
        })
    }

    fn store(&mut self, args: &StoreArgs, tracks: &[String]) -> Result<IngestRun, Error> {
        let n_requests = u64::from(args.points.div_ceil(self.args.batch));
        let before = self.platform.n_stored()?;
        if let Some(pid) = args.hold {
            signal(pid, Signal::SIGSTOP)?;
        }
        let mut trees = TreeWatch::begin(&self.args.server_pid);
        let sent = self.send(tracks, n_requests, (AT_ONCE, LONGEST), Some(Budget::new(n_requests)));
        let mut begun = Instant::now();
        if let Some(pid) = args.hold {
            signal(pid, Signal::SIGCONT)?;
            trees = TreeWatch::begin(&self.args.server_pid);
        }
        let (figures, _, elapsed) = sent?;
        if args.hold.is_none() {
            begun -= elapsed;
        }
        // Each request is sent once, some before the measured time begins: figures alone would leave those out.
        let n_points = n_requests * u64::from(self.args.batch);
        self.platform.until_stored(before + n_points, Instant::now() + args.within, || trees.sample())?;
        let elapsed_s = begun.elapsed().as_secs_f64();
        let processes = trees.finish(n_points);
        let stored = self.platform.n_stored_of(tracks)?;
        Ok(IngestRun {
            points: n_points,
            elapsed_s,
            points_per_s: n_points as f64 / elapsed_s,
            accepted_per_s: Some(n_points as f64 / elapsed.as_secs_f64()),
            stored: Some(stored),
            is_balanced: stored == n_points && figures.errors.total == 0,
            requests: figures,
            processes,
        })
    }

    /// Sends requests, and returns with the figures how long it took from the first to the last answer.
    fn send(
        &mut self,
        tracks: &[String],
        n_requests: u64,
        (warmup, duration): (Duration, Duration),
        budget: Option<Budget>,
    ) -> Result<(Figures, Vec<TreeUsage>, Duration), Error> {
        let token = self.platform.token(warmup + duration + self.args.timeout)?;
        let seconds = n_requests * u64::from(self.args.batch) / u64::from(self.args.tracks);
        let begin = OffsetDateTime::now_utc() - Duration::from_secs(seconds + 1);
        let authority = self.args.url.authority();
        let source = Source { tracks, begin, batch: self.args.batch, token: &token, authority: &authority };
        let plan = Arc::new(Plan {
            peer: self.peer,
            requests: source.requests(n_requests)?,
            body_rule: BodyRule::Expected,
            connections: self.connections(),
            threads: self.args.threads,
            pace: Pace::Closed,
            warmup,
            duration,
            timeout: self.args.timeout,
            sources: SourceAddresses::for_run(self.peer, self.connections(), 0),
            budget,
            harvest: Harvest::Nothing,
        });
        let mut trees = None;
        let mut launched = Instant::now();
        let mut observe = |seen: Progress| match seen {
            Progress::WarmingUp => launched = Instant::now(),
            Progress::Measuring { .. } => trees = Some(TreeWatch::begin(&self.args.server_pid)),
            Progress::Running { .. } => trees.iter_mut().for_each(TreeWatch::sample),
            Progress::Ended => {}
        };
        let load = generator::run(&plan, &mut observe).map_err(Error::failed)?;
        let elapsed = load.recorder.last_ok_at.map_or_else(|| launched.elapsed(), |at| at.saturating_duration_since(launched));
        let n_points = load.recorder.ok_in_window * u64::from(self.args.batch);
        let processes = trees.map_or_else(Vec::new, |trees| trees.finish(n_points));
        Ok((Figures::of(&plan, load, Usages { server: None, generator: None }), processes, elapsed))
    }
}

/// To a process and all below it.
fn signal(pid: u32, signal: Signal) -> Result<(), Error> {
    for pid in pids_of(pid) {
        let pid = i32::try_from(pid).map_err(Error::usage)?;
        kill(Pid::from_raw(pid), signal).map_err(|error| Error::failed(format!("cannot send {signal} to {pid}: {error}")))?;
    }
    Ok(())
}

/// The report for people.
fn lines(report: &IngestReport) -> Vec<String> {
    let mut lines = vec![format!("{} {} · {}", report.tool, report.version, report.machine.summary()), String::new()];
    let headings = ["run", "points", "s", "points/s", "accepted/s", "stored", "errors", "p50 ms", "p99"];
    let mut cells = vec![headings.map(str::to_owned).to_vec()];
    for (run_idx, run) in report.runs.iter().enumerate() {
        let latency = run.requests.latency_ms.as_ref();
        let mark = if run_idx == report.median { " *" } else { "" };
        cells.push(vec![
            format!("{}{mark}", run_idx + 1),
            grouped(run.points as f64),
            format!("{:.2}", run.elapsed_s),
            grouped(run.points_per_s),
            run.accepted_per_s.map_or(dash(), grouped),
            run.stored.map_or(dash(), |stored| grouped(stored as f64)),
            grouped(run.requests.errors.total as f64),
            latency.map_or(dash(), |latency| short_ms(latency.p50)),
            latency.map_or(dash(), |latency| short_ms(latency.p99)),
        ]);
    }
    lines.extend(aligned(&cells));
    lines.push(String::new());
    lines.extend(report.runs[report.median].processes.iter().map(|usage| {
        let per_point = usage.cpu_us_per_job.map_or(dash(), |cpu_us| format!("{cpu_us:.1}"));
        let mib = usage.rss_peak_bytes as f64 / 1_048_576.0;
        format!("{} ({}): {:.0} % CPU, {per_point} µs per point, {mib:.0} MiB", usage.name, usage.pid, usage.cpu_percent)
    }));
    lines
}
