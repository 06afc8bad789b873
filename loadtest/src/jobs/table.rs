//! The report for people: a line per run, and what the servers used in the one in the middle.

use super::report::{JobsReport, Run};
use crate::columns::{aligned, dash, grouped, short_ms};
use crate::http::Percentiles;

/// A column: its heading, and what it shows of a run.
type Column = (&'static str, fn(&Run) -> String);

const ALWAYS: [Column; 3] =
    [("jobs", |run| grouped(run.jobs as f64)), ("s", |run| format!("{:.2}", run.elapsed_s)), ("jobs/s", |run| grouped(run.jobs_per_s))];
const ENQUEUE: [Column; 7] = [
    ("req/s", |run| run.requests.as_ref().map_or(dash(), |figures| grouped(figures.per_second))),
    ("errors", |run| run.requests.as_ref().map_or(dash(), |figures| grouped(figures.errors.total as f64))),
    ("p50 ms", |run| latency(run, |of| of.p50)),
    ("p90", |run| latency(run, |of| of.p90)),
    ("p99", |run| latency(run, |of| of.p99)),
    ("max", |run| latency(run, |of| of.max)),
    ("reference/s", |run| run.reference_per_s.map_or(dash(), grouped)),
];
const DRAIN: [Column; 2] = [
    ("filled/s", |run| run.submit_jobs_per_s.map_or(dash(), grouped)),
    ("watching", |run| run.n_watching.map_or(dash(), |n| grouped(f64::from(n)))),
];
const PICKUP: [Column; 8] = [
    ("start p50 ms", |run| pickup(run, |of| of.started_ms.p50)),
    ("p90", |run| pickup(run, |of| of.started_ms.p90)),
    ("p99", |run| pickup(run, |of| of.started_ms.p99)),
    ("max", |run| pickup(run, |of| of.started_ms.max)),
    ("end p50", |run| pickup(run, |of| of.ended_ms.p50)),
    ("p99", |run| pickup(run, |of| of.ended_ms.p99)),
    ("answer p50", |run| pickup(run, |of| of.answered_ms.p50)),
    ("p99", |run| pickup(run, |of| of.answered_ms.p99)),
];

/// The whole report as lines.
pub(super) fn lines(report: &JobsReport) -> Vec<String> {
    let mut lines = vec![report.provenance.summary(), heading(report), String::new()];
    lines.extend(aligned(&cells(report)));
    lines.push(String::new());
    let median = report.median_run();
    lines.extend(median.processes.iter().map(|usage| {
        let per_job = usage.cpu_us_per_job.map_or(dash(), |cpu_us| format!("{cpu_us:.1}"));
        let mib = usage.rss_peak_bytes as f64 / 1_048_576.0;
        format!(
            "{} ({}): {:.0} % CPU, {per_job} µs per job, {mib:.0} MiB in {} processes",
            usage.name, usage.pid, usage.cpu_percent, usage.n_processes
        )
    }));
    if let Some(generator) = median.requests.as_ref().and_then(|figures| figures.generator) {
        lines.push(format!("load tester: {:.0} % CPU", generator.cpu_percent));
    }
    for (run_idx, run) in report.runs.iter().enumerate() {
        let verdict = if run.is_balanced { "ledger" } else { "LEDGER DOES NOT BALANCE" };
        lines.push(format!("run {} {verdict}: {}", run_idx + 1, run.ledger.shown()));
    }
    lines
}

fn heading(report: &JobsReport) -> String {
    let load = match (report.bulk, report.connections) {
        (Some(1), Some(connections)) => format!(" · single submits over {connections} connections"),
        (Some(bulk), Some(connections)) => format!(" · bulks of {bulk} over {connections} connections"),
        (_, None) | (None, _) => " · one job at a time".to_owned(),
    };
    format!("{} · {}{load} · {} runs, * is the one in the middle", report.url, report.measure, report.runs.len())
}

fn cells(report: &JobsReport) -> Vec<Vec<String>> {
    let own: &[Column] = match report.measure {
        "enqueue" => &ENQUEUE,
        "drain" => &DRAIN,
        _ => &PICKUP,
    };
    let columns: Vec<&Column> = ALWAYS.iter().chain(own).collect();
    let heading = std::iter::once("run").chain(columns.iter().map(|(heading, _)| *heading)).map(str::to_owned).collect();
    let body = report.runs.iter().enumerate().map(|(run_idx, run)| {
        let mark = if run_idx == report.median { " *" } else { "" };
        let shown = columns.iter().map(|(_, shown)| shown(run));
        std::iter::once(format!("{}{mark}", run_idx + 1)).chain(shown).collect()
    });
    std::iter::once(heading).chain(body).collect()
}

fn latency(run: &Run, of: fn(&Percentiles) -> f64) -> String {
    run.requests.as_ref().and_then(|figures| figures.latency_ms.as_ref()).map_or(dash(), |latency| short_ms(of(latency)))
}

fn pickup(run: &Run, of: fn(&super::report::Pickup) -> f64) -> String {
    run.pickup.as_ref().map_or(dash(), |pickup| short_ms(of(pickup)))
}
