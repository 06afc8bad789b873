//! `millrace-loadtest overload`: the peak of a mix of requests, then multiples of it, and what the platform makes of them.
//!
//! `args` is the command line · `mix` makes the requests · `bench` runs peak and loads · `watching` is what others meet meanwhile ·
//! `shedding` reads the server's own clock · `accounts` tells whether all that was accepted is there · `report` is the result.

mod accounts;
mod args;
mod bench;
mod mix;
mod report;
mod shedding;
pub(crate) mod watching;

use crate::address::Ownership;
use crate::error::Error;
use crate::machine;
use crate::output::Output;
use crate::process::Watch;
use crate::provenance::Provenance;

use self::accounts::Accounts;
use self::bench::Bench;

pub use self::args::{Mix, OverloadArgs};
pub use self::report::{Load, OverloadReport, Peak, PeakRun, Points, Probed, Verdict};

/// Measures what `args` ask for, writes the table, and the JSON file where one is named. What was accepted and is not there is an error,
/// told after the figures; a promise that is not kept is not.
pub fn run(args: &OverloadArgs, output: &mut Output<'_>) -> Result<OverloadReport, Error> {
    if args.quiet {
        output.be_quiet();
    }
    let report = measure(args, output)?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).map_err(Error::failed)?;
        std::fs::write(path, json + "\n").map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    for line in report::lines(&report) {
        output.result(&line)?;
    }
    if report.is_balanced { Ok(report) } else { Err(Error::failed("the ledger does not balance")) }
}

fn measure(args: &OverloadArgs, output: &mut Output<'_>) -> Result<OverloadReport, Error> {
    if let Some(pid) = Watch::new(&args.server_pid).missing_pid() {
        return Err(Error::usage(format!("there is no process {pid}")));
    }
    if !args.url.is_root() {
        return Err(Error::usage("--url names the server alone"));
    }
    let ownership = if args.i_own_this_host { Ownership::Claimed } else { Ownership::Unclaimed };
    let peer = args.url.resolve(ownership)?;
    machine::allow_connections(args.peak_connections.iter().copied().chain([args.connections]).max().unwrap_or(1))?;
    let mut accounts = Accounts::open(args, peer)?;
    let mut bench = Bench::set_up(args, peer, &mut accounts, output)?;
    let mut peak = bench.peak(output)?;
    let mut loads = Vec::with_capacity(args.loads.len());
    for times_peak in &args.loads {
        loads.push(bench.load(*times_peak, &peak, output)?);
    }
    bench.peak_again(&mut peak, output)?;
    for load in &mut loads {
        load.goodput_share = load.goodput_per_s / peak.mean_per_s();
    }
    let accepted = bench.finish();
    output.note(&format!("{} jobs were accepted: waiting for them to end", accepted.jobs.len()))?;
    let (ledger, points) = accounts.close(args, &accepted)?;
    let is_balanced = accounts::balance(&ledger, points);
    let mut report = OverloadReport {
        provenance: Provenance::here(),
        url: format!("http://{}", args.url.authority()),
        mix: args.mix,
        batch: args.batch,
        connections: args.connections,
        deadline_s: args.deadline.as_secs_f64(),
        peak,
        loads,
        ledger,
        points,
        is_balanced,
        verdicts: Vec::new(),
    };
    report.verdicts = report::verdicts(&report);
    Ok(report)
}
