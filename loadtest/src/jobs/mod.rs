//! `millrace-loadtest jobs`: submits, drains and pickups, each with a ledger of its jobs.
//!
//! `args` is the command line · `run` makes one run of each measure · `load` submits · `platform` is asked for the rest ·
//! `ledger` checks that every accepted job is there once · `report` and `table` are the result.

mod args;
mod ledger;
mod load;
mod platform;
mod report;
mod run;
mod table;

use std::net::SocketAddr;

use self::args::connections;
use self::run::Site;
use crate::address::{HttpUrl, Ownership};
use crate::control::Control;
use crate::error::Error;
use crate::machine;
use crate::output::Output;
use crate::process::Watch;
use crate::provenance::{Provenance, run_name};
use crate::session::Need;

pub use self::args::{DrainArgs, EnqueueArgs, JobsArgs, Measure, PickupArgs};
pub use self::ledger::Ledger;
pub(crate) use self::ledger::Rest;
pub(crate) use self::load::in_queue;
pub(crate) use self::platform::{Platform, QueueState};
pub use self::report::{JobsReport, Pickup, Run};

/// Measures what `args` ask for, writes the table, and the JSON file where one is named. A ledger that does not balance is an
/// error, told after the figures.
pub fn run(args: &JobsArgs, output: &mut Output<'_>) -> Result<JobsReport, Error> {
    if args.quiet {
        output.be_quiet();
    }
    let report = measure_all(args, output)?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).map_err(Error::failed)?;
        std::fs::write(path, json + "\n").map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    for line in table::lines(&report) {
        output.result(&line)?;
    }
    match report.runs.iter().find(|run| !run.is_balanced) {
        Some(run) => Err(Error::failed(format!("the ledger of {} does not balance", run.queue))),
        None => Ok(report),
    }
}

fn measure_all(args: &JobsArgs, output: &mut Output<'_>) -> Result<JobsReport, Error> {
    if let Some(pid) = Watch::new(&args.server_pid).missing_pid() {
        return Err(Error::usage(format!("there is no process {pid}")));
    }
    if !args.url.is_root() {
        return Err(Error::usage("--url names the server alone"));
    }
    let (measure, bulk, connections) = load_of(&args.measure);
    machine::allow_connections(connections.unwrap_or(1))?;
    let peer = resolve(&args.url, args)?;
    let reference_peer = match &args.measure {
        Measure::Enqueue(EnqueueArgs { reference_url: Some(url), .. }) => Some(resolve(url, args)?),
        Measure::Enqueue(_) | Measure::Drain(_) | Measure::Pickup(_) => None,
    };
    let control = Control::new(peer, &args.url.authority())?;
    let mut site = Site { args, peer, platform: Platform::new(control, args.account.identity(Need::Somebody)?) };
    let mut runs = Vec::with_capacity(args.repeat as usize);
    for run_idx in 0..args.repeat {
        let queue = run_name("loadtest");
        let run = match &args.measure {
            Measure::Enqueue(enqueue) => site.enqueue(enqueue, &queue, reference_peer)?,
            Measure::Drain(drain) => site.drain(drain, &queue)?,
            Measure::Pickup(pickup) => site.pickup(pickup, &queue)?,
        };
        output.note(&format!("run {} of {}: {:.0} jobs/s", run_idx + 1, args.repeat, run.jobs_per_s))?;
        runs.push(run);
    }
    Ok(JobsReport {
        provenance: Provenance::here(),
        measure,
        url: format!("http://{}", args.url.authority()),
        bulk,
        connections,
        median: median(&runs),
        runs,
    })
}

fn load_of(measure: &Measure) -> (&'static str, Option<u32>, Option<u32>) {
    match measure {
        Measure::Enqueue(args) => ("enqueue", Some(args.bulk), Some(connections(args.connections, args.bulk))),
        Measure::Drain(args) => ("drain", Some(args.bulk), Some(connections(args.connections, args.bulk))),
        Measure::Pickup(_) => ("pickup", None, None),
    }
}

/// The run in the middle, the lower of two: its figures belong together, which medians of each would not.
fn median(runs: &[Run]) -> usize {
    let figure = |run: &Run| run.pickup.as_ref().map_or(run.jobs_per_s, |pickup| -pickup.started_ms.p50);
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by(|a, b| figure(&runs[*a]).total_cmp(&figure(&runs[*b])));
    order[(runs.len() - 1) / 2]
}

/// Half of the cores unless told otherwise: the server is on the same machine as a rule.
fn threads(args: &JobsArgs) -> u32 {
    let half = u32::try_from(machine::n_cores() / 2).unwrap_or(1);
    args.threads.unwrap_or(half.clamp(1, 64))
}

fn resolve(url: &HttpUrl, args: &JobsArgs) -> Result<SocketAddr, Error> {
    url.resolve(match args.i_own_this_host {
        true => Ownership::Claimed,
        false => Ownership::Unclaimed,
    })
}
