//! `millrace-loadtest http`: requests against one target, row by row, each run several times, in
//! turns with a reference where one is given.
//!
//! `args` is the command line · `steps` the rows it asks for · `aim` prepares the requests · `bench`
//! measures them (`observed`), by `crew` and `share` where one process is too few · `figures` and `report` are the result · `table` shows it.

pub(crate) mod aim;
mod args;
mod bench;
mod crew;
mod figures;
mod observed;
mod report;
mod share;
mod steps;
mod table;

use self::bench::Bench;
use self::steps::Step;
use crate::error::Error;
use crate::machine;
use crate::output::Output;
use crate::provenance::Provenance;

pub use self::args::{HttpArgs, RateStep, Target};
pub(crate) use self::args::{connections_parser, parse_duration};
pub(crate) use self::figures::Usages;
pub use self::figures::{Errors, Figures, Percentiles, Schedule};
pub(crate) use self::observed::observed;
pub(crate) use self::report::masked;
pub use self::report::{Mode, Reference, Report, Row, Settings};
pub(crate) use self::share::{SHARE_COMMAND, run as run_share};

/// A generator this busy, in percent of its threads, may itself be what limits the figures.
const BUSY_PERCENT: f64 = 90.0;

/// Measures what `args` ask for, writes the table, and the JSON file where one is named.
pub fn run(args: &HttpArgs, output: &mut Output<'_>) -> Result<Report, Error> {
    if args.quiet {
        output.be_quiet();
    }
    let steps = steps::steps(args);
    machine::allow_connections(most_in_this_process(&steps, args))?;
    let (rows, failure) = Bench::set_up(args, &steps, output)?.measure_all(&steps);
    if rows.is_empty() {
        return Err(failure.unwrap_or_else(|| Error::failed("there is nothing to measure")));
    }
    if let Some(failure) = &failure {
        output.warn(&format!("the rows below were measured before it failed: {failure}"))?;
    }
    let report = Report { provenance: Provenance::here(), settings: settings(args), rows };
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).map_err(Error::failed)?;
        std::fs::write(path, json + "\n").map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    for line in table::lines(&report) {
        output.result(&line)?;
    }
    warn_of_busy_generator(&report, output)?;
    failure.map_or(Ok(report), Err)
}

/// The most connections of a run that this process holds itself: larger ones, and those to several servers, are dealt out to others. The
/// reference is one server.
fn most_in_this_process(steps: &[Step], args: &HttpArgs) -> u32 {
    let n_servers = [Some(args.url.len()), args.reference_url.as_ref().map(|_| 1)];
    let sizes = n_servers.into_iter().flatten().flat_map(|n_servers| steps.iter().map(move |step| (step.connections, n_servers)));
    let held = sizes.filter(|(connections, n_servers)| crew::n_shares(*connections, *n_servers) == 1);
    held.map(|(connections, _)| connections).max().unwrap_or(0)
}

/// Half of the cores unless told otherwise: the server is on the same machine as a rule.
fn threads(args: &HttpArgs) -> u32 {
    let half = u32::try_from(machine::n_cores() / 2).unwrap_or(1);
    args.threads.unwrap_or(half.clamp(1, 64))
}

fn settings(args: &HttpArgs) -> Settings {
    Settings {
        url: args.url.iter().map(|url| format!("http://{}", url.authority())).collect::<Vec<_>>().join(","),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_needed_for_the_largest_run_that_is_not_dealt_out() {
        let most = |line: &str| {
            let args = HttpArgs::typed(line);
            most_in_this_process(&steps::steps(&args), &args)
        };
        assert_eq!(most("x --ladder 100,10000,24000"), 10_000);
        assert_eq!(most("x --ladder 100,24000 --reference-url http://127.0.0.1:9"), 100);
        let two = "x --url http://127.0.0.1:1,http://127.0.0.1:2 --ladder 100,5000,24000";
        assert_eq!((most(two), most(&format!("{two} --reference-url http://127.0.0.1:9"))), (0, 5_000));
    }
}
