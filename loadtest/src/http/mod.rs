//! `millrace-loadtest http`: requests against one target, row by row, each run several times, in
//! turns with a reference where one is given.
//!
//! `args` is the command line · `steps` the rows it asks for · `aim` prepares the requests ·
//! `figures` and `report` are the result · `table` shows it.

mod aim;
mod args;
mod figures;
mod report;
mod steps;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use self::aim::Aim;
use self::figures::Usages;
use self::steps::Step;
use crate::address::{HttpUrl, Ownership};
use crate::error::Error;
use crate::generator::{self, Pace, Plan, Progress, SourceAddresses};
use crate::machine::{self, Machine};
use crate::output::Output;
use crate::process::Watch;
use crate::progress::{ProgressDisplay, Visibility};

pub use self::args::{HttpArgs, RateStep, Target};
pub use self::figures::{Errors, Figures, Percentiles, Schedule};
pub use self::report::{Mode, Reference, Report, Row, Settings};

/// A generator this busy, in percent of its threads, may itself be what limits the figures.
const BUSY_PERCENT: f64 = 90.0;

/// Measures what `args` ask for, writes the table, and the JSON file where one is named.
pub fn run(args: &HttpArgs, output: &mut Output<'_>) -> Result<Report, Error> {
    if args.quiet {
        output.be_quiet();
    }
    let steps = steps::steps(args);
    let most_connections = steps.iter().map(|step| step.connections).max();
    machine::allow_connections(most_connections.unwrap_or(0))?;
    let mut bench = Bench::set_up(args, &steps, output)?;
    let rows = bench.measure_all(&steps)?;
    let report = Report {
        tool: "millrace-loadtest",
        version: env!("CARGO_PKG_VERSION"),
        command: report::masked(std::env::args()),
        date: OffsetDateTime::now_utc(),
        machine: Machine::read(),
        settings: settings(args),
        rows,
    };
    for line in table::lines(&report) {
        output.result(&line)?;
    }
    warn_of_busy_generator(&report, output)?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).map_err(Error::failed)?;
        std::fs::write(path, json + "\n")?;
        output.note(&format!("all figures are in {}", path.display()))?;
    }
    Ok(report)
}

/// Both aims, ready to be measured.
struct Bench<'a> {
    args: &'a HttpArgs,
    target: Aim,
    reference: Option<Aim>,
    progress: ProgressDisplay,
    n_runs_done: u32,
}

impl<'a> Bench<'a> {
    fn set_up(args: &'a HttpArgs, steps: &[Step], output: &mut Output<'_>) -> Result<Self, Error> {
        check_pids(args)?;
        let n_runs = steps::runs_per_step(args) * u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let planned = steps::run_time(args) * n_runs;
        let peer = resolve(&args.url, args)?;
        let reference = match &args.reference_url {
            Some(url) => Some(Aim::at_reference(url, resolve(url, args)?)?),
            None => None,
        };
        let target = Aim::at_target(args, peer, Duration::from_secs(60))?;
        let planned_s = planned.as_secs_f64();
        output.note(&format!("{n_runs} runs, about {planned_s:.0} s"))?;
        let visibility = match output.is_quiet() {
            true => Visibility::Hidden,
            false => Visibility::Terminal,
        };
        Ok(Self { args, target, reference, progress: ProgressDisplay::new(n_runs, steps::run_time(args), visibility), n_runs_done: 0 })
    }

    fn measure_all(&mut self, steps: &[Step]) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::with_capacity(steps.len());
        let mut peak_per_s = None;
        for step in steps {
            let rate_per_s = steps::rate_per_s(*step, peak_per_s)?;
            let row = self.measure_row(step.connections, rate_per_s)?;
            if rate_per_s.is_none() {
                peak_per_s = Some(row.median.per_second);
            }
            rows.push(row);
        }
        self.progress.finish();
        Ok(rows)
    }

    /// Target and reference in turns, so that a change of the machine's mood meets both.
    fn measure_row(&mut self, connections: u32, rate_per_s: Option<f64>) -> Result<Row, Error> {
        let mut runs = Vec::new();
        let mut reference_runs = Vec::new();
        for _ in 0..self.args.repeat {
            runs.push(self.measure(Side::Target, connections, rate_per_s)?);
            if self.reference.is_some() {
                reference_runs.push(self.measure(Side::Reference, connections, rate_per_s)?);
            }
        }
        let median = Figures::median(&runs);
        let reference = (!reference_runs.is_empty()).then(|| {
            let of_reference = Figures::median(&reference_runs);
            let ratio = median.per_second / of_reference.per_second;
            Reference { ratio: ratio.is_finite().then_some(ratio), median: of_reference, runs: reference_runs }
        });
        Ok(Row {
            target: self.target.label.clone(),
            connections,
            mode: rate_per_s.map_or(Mode::Closed, |_| Mode::Open),
            rate_per_s,
            median,
            runs,
            reference,
        })
    }

    fn measure(&mut self, side: Side, connections: u32, rate_per_s: Option<f64>) -> Result<Figures, Error> {
        let run_time = steps::run_time(self.args) + self.args.timeout;
        let (aim, pids) = match (side, &mut self.reference) {
            (Side::Reference, Some(reference)) => (reference, &self.args.reference_pid),
            (Side::Target, _) | (Side::Reference, None) => (&mut self.target, &self.args.server_pid),
        };
        let plan = Arc::new(Plan {
            peer: aim.peer,
            requests: aim.request_bytes(run_time)?,
            body_rule: aim.body_rule,
            connections,
            threads: threads(self.args),
            pace: rate_per_s.map_or(Pace::Closed, |rate_per_s| Pace::Open { rate_per_s, max_waiting: self.args.max_waiting }),
            warmup: self.args.warmup,
            duration: self.args.duration,
            timeout: self.args.timeout,
            sources: SourceAddresses::for_run(aim.peer, connections, self.n_runs_done),
        });
        self.n_runs_done += 1;
        self.progress.begin_run(&aim.label);
        let figures = run_once(&plan, &aim.label, pids, &self.progress)?;
        self.progress.end_run();
        Ok(figures)
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Target,
    Reference,
}

/// One run, with the CPU and memory of server and generator over its measured time.
fn run_once(plan: &Arc<Plan>, label: &str, pids: &[u32], progress: &ProgressDisplay) -> Result<Figures, Error> {
    let mut watches = Some((Watch::new(pids), Watch::own()));
    let mut usages = Usages { server: None, generator: None };
    let mut n_before = 0;
    let mut observe = |seen: Progress| match (seen, &mut watches) {
        (Progress::Measuring { answered }, Some((server, generator))) => {
            n_before = answered;
            server.begin();
            generator.begin();
        }
        (Progress::Running { elapsed, answered }, Some((server, _))) => {
            server.sample();
            let per_second = (answered - n_before) as f64 / elapsed.as_secs_f64().max(0.001);
            progress.update(label, plan.warmup + elapsed, per_second);
        }
        (Progress::Ended, watches) => {
            let ended = watches.take();
            (usages.server, usages.generator) = ended.map_or((None, None), |(server, generator)| (server.finish(), generator.finish()));
        }
        (Progress::Measuring { .. } | Progress::Running { .. }, None) => {}
    };
    let load = generator::run(plan, &mut observe).map_err(Error::failed)?;
    Ok(Figures::of(plan, load, usages))
}

fn resolve(url: &HttpUrl, args: &HttpArgs) -> Result<SocketAddr, Error> {
    url.resolve(match args.i_own_this_host {
        true => Ownership::Claimed,
        false => Ownership::Unclaimed,
    })
}

fn check_pids(args: &HttpArgs) -> Result<(), Error> {
    let pids = [args.server_pid.as_slice(), args.reference_pid.as_slice()].concat();
    match Watch::new(&pids).missing_pid() {
        Some(pid) => Err(Error::usage(format!("there is no process {pid}"))),
        None => Ok(()),
    }
}

/// Half of the cores unless told otherwise: the server is on the same machine as a rule.
fn threads(args: &HttpArgs) -> u32 {
    let half = u32::try_from(machine::n_cores() / 2).unwrap_or(1);
    args.threads.unwrap_or(half.clamp(1, 64))
}

fn settings(args: &HttpArgs) -> Settings {
    Settings {
        url: format!("http://{}", args.url.authority()),
        reference_url: args.reference_url.as_ref().map(|url| format!("http://{}{}", url.authority(), url.path())),
        threads: threads(args),
        repeat: args.repeat,
        duration_s: args.duration.as_secs_f64(),
        warmup_s: args.warmup.as_secs_f64(),
        timeout_s: args.timeout.as_secs_f64(),
    }
}

fn warn_of_busy_generator(report: &Report, output: &mut Output<'_>) -> Result<(), Error> {
    let usages = report.rows.iter().filter_map(|row| row.median.generator);
    let busiest = usages.map(|usage| usage.cpu_percent).fold(0.0, f64::max);
    let threads = f64::from(report.settings.threads);
    if busiest / threads > BUSY_PERCENT {
        output.warn(&format!(
            "the load tester used {busiest:.0} % CPU of its {threads:.0} threads: the server may \
             be able to do more"
        ))?;
    }
    Ok(())
}
