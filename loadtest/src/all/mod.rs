//! `millrace-loadtest all`: every part once, then one page and one JSON file.
//!
//! `args` is the command line · `parts` the list of what is measured · `running` runs it · `findings` reads what the parts wrote ·
//! `promises` judges it · `decisions` asks the platform how large it should be · `report` is the result, which `page` shows.

mod args;
mod decisions;
pub(crate) mod findings;
mod parts;
mod promises;
mod report;
mod running;

use std::path::Path;

use crate::address::Ownership;
use crate::error::Error;
use crate::output::Output;
use crate::page;
use crate::process::Watch;
use crate::progress::{PartsDisplay, Visibility};
use crate::provenance::Provenance;

pub use self::args::{AllArgs, ReportArgs};
pub use self::report::{AllReport, Decision, Judged, Part, Verdict};

/// Runs the parts that `args` ask for, judges, and writes page and JSON. A part that failed is in the report, and the exit code is 1.
pub fn run(args: &AllArgs, output: &mut Output<'_>) -> Result<AllReport, Error> {
    if args.quiet {
        output.be_quiet();
    }
    if let Some(name) = parts::unknown(args) {
        return Err(Error::usage(format!("there is no part {name}")));
    }
    let pids = [args.server_pid.as_slice(), args.limited_pid.as_slice(), args.tree_pid.as_slice()].concat();
    if let Some(pid) = Watch::new(&pids).missing_pid() {
        return Err(Error::usage(format!("there is no process {pid}")));
    }
    let ownership = if args.i_own_this_host { Ownership::Claimed } else { Ownership::Unclaimed };
    let peers = args.url.iter().map(|url| url.resolve(ownership)).collect::<Result<Vec<_>, _>>()?;
    let peer = *peers.first().ok_or_else(|| Error::usage("--url names no server"))?;
    // Before anything is measured: an account that may not ask is better known at once.
    let (decisions, undecided) = match decisions::ask(args, peer) {
        Ok(decisions) => (decisions, None),
        Err(error @ Error::Usage(_)) => return Err(error),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let planned = parts::list(args);
    let seconds: u64 = planned.iter().map(|part| part.expected.as_secs()).sum();
    output.note(&format!("{} parts, about {} min {} s", planned.len(), seconds / 60, seconds % 60))?;
    let visibility = if output.is_quiet() { Visibility::Hidden } else { Visibility::Terminal };
    let display = PartsDisplay::new(planned.iter().map(|part| part.expected).collect(), visibility);
    let parts = running::run(&planned, args, &display)?;
    display.finish();
    let report = AllReport {
        provenance: Provenance::here(),
        urls: args.url.iter().map(|url| format!("http://{}", url.authority())).collect(),
        is_quick: args.quick,
        promises: promises::judge(findings::Findings(&parts), args.url.len()),
        decisions,
        undecided,
        parts,
    };
    write(&args.json, &(serde_json::to_string_pretty(&report).map_err(Error::failed)? + "\n"))?;
    write(&args.html, &page::page(&report))?;
    tell(&report, args, output)?;
    let failed: Vec<&str> = report.parts.iter().filter(|part| part.failure.is_some()).map(|part| part.name.as_str()).collect();
    if failed.is_empty() { Ok(report) } else { Err(Error::failed(format!("these parts failed: {}", failed.join(", ")))) }
}

/// Makes the page anew from the JSON of an earlier run.
pub fn report(args: &ReportArgs, output: &mut Output<'_>) -> Result<(), Error> {
    let shown = args.json.display();
    let json = std::fs::read(&args.json).map_err(|error| Error::usage(format!("cannot read {shown}: {error}")))?;
    let report: AllReport =
        serde_json::from_slice(&json).map_err(|error| Error::usage(format!("{shown} is no report of `all`: {error}")))?;
    write(&args.html, &page::page(&report))?;
    Ok(output.result(&args.html.display().to_string())?)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))
}

fn tell(report: &AllReport, args: &AllArgs, output: &mut Output<'_>) -> Result<(), Error> {
    output.result(&report.provenance.summary())?;
    output.result("")?;
    for judged in &report.promises {
        let measured = judged.measured.as_deref().or(judged.why.as_deref()).unwrap_or_default();
        output.result(&format!("{:<13} {}: promised {}; {measured}", judged.verdict.shown(), judged.what, judged.promised))?;
    }
    for part in report.parts.iter().filter(|part| part.failure.is_some()) {
        output.warn(&format!("{}: {}", part.name, part.failure.as_deref().unwrap_or_default()))?;
    }
    output.result("")?;
    Ok(output.result(&format!("{} · {}", args.html.display(), args.json.display()))?)
}
