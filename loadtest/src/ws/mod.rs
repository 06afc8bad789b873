//! `millrace-loadtest ws`: how many sockets a server holds, echo, fan-out with a ledger for each subscriber, stuck readers.
//!
//! `args` and `target` are the command line · `site` prepares runs · `capacity`, `echo` and `fan_out` make one each · `crew`
//! holds the client processes, `orders` is what is said to them, `client` what they do, `follower` a socket for other loads, `audience` many of them that must miss nothing · `meter` watches the servers · `causes` says why something failed ·
//! `report` and `table` are the result.

mod args;
mod audience;
mod capacity;
mod causes;
mod client;
mod crew;
mod echo;
mod fan_out;
mod follower;
mod meter;
mod orders;
mod report;
mod site;
mod table;
mod target;
mod watchers;

use self::report::middle;
use self::site::{SOCKET_PATH, Side, Site};
use crate::error::Error;
use crate::output::Output;
use crate::provenance::Provenance;

pub use self::args::{CapacityArgs, EchoArgs, FanOutArgs, Measure, PublishWay, StuckArgs, WsArgs};
pub use self::audience::Heard;
pub(crate) use self::audience::{Audience, Seats};
pub use self::client::Totals;
pub(crate) use self::client::{now_ns, opening, run as run_client};
pub(crate) use self::crew::CLIENT_COMMAND;
pub(crate) use self::follower::Follower;
pub use self::meter::{Memory, ProcessUsage, Usages};
pub use self::report::{
    Advice, Capacity, CapacityStep, Compared, Degradation, Echo, Estimate, FanOut, Ledger, Opening, Outcome, Stuck, StuckReader, WsReport,
};
pub use self::target::WsUrl;
pub(crate) use self::watchers::{Watched, Watchers};

/// Measures what `args` ask for, writes the table, and the JSON file where one is named. A ledger that does not balance is an
/// error, told after the figures.
pub fn run(args: &WsArgs, output: &mut Output<'_>) -> Result<WsReport, Error> {
    if args.quiet {
        output.be_quiet();
    }
    let capacity = || Measure::Capacity(args.capacity.clone());
    let measure = args.measure.clone().unwrap_or_else(capacity);
    let (reference_path, n_sockets) = match &measure {
        Measure::Capacity(capacity) => ("/fanout", capacity.max),
        Measure::Echo(echo) => ("/echo", echo.connections),
        Measure::FanOut(fan_out) => ("/fanout", fan_out.subscribers),
        Measure::Stuck(stuck) => ("/fanout", stuck.fan_out.subscribers + stuck.stuck),
    };
    check(&measure)?;
    let mut site = Site::prepare(args, reference_path)?;
    let clients = site.n_clients(n_sockets);
    let outcome = match &measure {
        Measure::Capacity(args) => Outcome::Capacity(measure_capacity(&mut site, args, output)?),
        Measure::Echo(args) => {
            let (runs, reference) = in_turns(&mut site, output, |site, side| echo::run(site, side, args), |run| run.per_s)?;
            Outcome::Echo(Compared::new(runs, reference, |run| run.per_s))
        }
        Measure::FanOut(args) => {
            let figure = |run: &FanOut| run.deliveries_per_s;
            let (runs, reference) = in_turns(&mut site, output, |site, side| fan_out::run(site, side, args, 0), figure)?;
            Outcome::FanOut(Compared::new(runs, reference, figure))
        }
        Measure::Stuck(args) => Outcome::Stuck(measure_stuck(&mut site, args, output)?),
    };
    let report = WsReport {
        provenance: Provenance::here(),
        urls: args.url.iter().map(|url| url.shown(SOCKET_PATH)).collect(),
        reference_url: args.reference_url.as_ref().map(|url| url.shown(reference_path)),
        clients,
        outcome,
    };
    write(&report, args, output)?;
    match report.n_broken_ledgers() {
        0 => Ok(report),
        n_broken => Err(Error::failed(format!("the ledgers of {n_broken} runs do not balance"))),
    }
}

fn check(measure: &Measure) -> Result<(), Error> {
    let fan_out = match measure {
        Measure::FanOut(args) => args,
        Measure::Stuck(args) => &args.fan_out,
        Measure::Capacity(_) | Measure::Echo(_) => return Ok(()),
    };
    let n_publishers = fan_out.publishers.unwrap_or(fan_out.channels);
    if n_publishers < fan_out.channels {
        return Err(Error::usage("--publishers must be at least --channels: each publishes on one"));
    }
    if n_publishers > fan_out.subscribers {
        return Err(Error::usage("--subscribers must be at least --publishers and --channels"));
    }
    Ok(())
}

fn write(report: &WsReport, args: &WsArgs, output: &mut Output<'_>) -> Result<(), Error> {
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(report).map_err(Error::failed)?;
        std::fs::write(path, json + "\n").map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    for line in table::lines(report) {
        output.result(&line)?;
    }
    Ok(())
}

/// Runs of the platform and, in turns with them, of the reference.
fn in_turns<T>(
    site: &mut Site<'_>,
    output: &mut Output<'_>,
    run: impl Fn(&mut Site<'_>, &Side) -> Result<T, Error>,
    figure: impl Fn(&T) -> f64,
) -> Result<(Vec<T>, Vec<T>), Error> {
    let (platform, reference) = (site.platform.clone(), site.reference.clone());
    let (mut runs, mut reference_runs) = (Vec::new(), Vec::new());
    for run_idx in 1..=site.args.repeat {
        let made = run(site, &platform)?;
        output.note(&format!("run {run_idx} of {}: {:.0}/s", site.args.repeat, figure(&made)))?;
        runs.push(made);
        if let Some(reference) = &reference {
            let made = run(site, reference)?;
            output.note(&format!("reference {run_idx} of {}: {:.0}/s", site.args.repeat, figure(&made)))?;
            reference_runs.push(made);
        }
    }
    Ok((runs, reference_runs))
}

fn measure_capacity(site: &mut Site<'_>, args: &CapacityArgs, output: &mut Output<'_>) -> Result<Compared<Capacity>, Error> {
    let rss = (capacity::rss_bytes(&site.platform), site.reference.as_ref().map_or(0, capacity::rss_bytes));
    let (platform, reference) = (site.platform.clone(), site.reference.clone());
    let (mut runs, mut reference_runs) = (Vec::new(), Vec::new());
    for _ in 0..site.args.repeat {
        runs.push(capacity::run(site, &platform, args, rss.0, output)?);
        if let Some(reference) = &reference {
            output.note("reference")?;
            reference_runs.push(capacity::run(site, reference, args, rss.1, output)?);
        }
    }
    // Memory: less is better.
    Ok(Compared::new(runs, reference_runs, |run| run.kb_per_socket.unwrap_or(0.0)))
}

fn measure_stuck(site: &mut Site<'_>, args: &StuckArgs, output: &mut Output<'_>) -> Result<Stuck, Error> {
    let platform = site.platform.clone();
    let p99 = |run: &FanOut| run.latency_ms.as_ref().map_or(f64::INFINITY, |latency| latency.p99);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for run_idx in 1..=site.args.repeat {
        without.push(fan_out::run(site, &platform, &args.fan_out, 0)?);
        with.push(fan_out::run(site, &platform, &args.fan_out, args.stuck)?);
        let shown = [&without, &with].map(|runs| runs.last().map_or(0.0, p99));
        output.note(&format!("run {run_idx} of {}: p99 {:.3} ms without, {:.3} ms with", site.args.repeat, shown[0], shown[1]))?;
    }
    let (median_without, median_with) = (middle(&without, p99), middle(&with, p99));
    let p99_ratio = Some(p99(&with[median_with]) / p99(&without[median_without])).filter(|ratio| ratio.is_finite());
    Ok(Stuck { median_without, without, median_with, with, p99_ratio })
}
