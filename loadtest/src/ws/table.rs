//! The report for people.

use std::collections::BTreeMap;

use super::meter::Usages;
use super::report::{Capacity, CapacityStep, Compared, Echo, FanOut, Outcome, Stuck, WsReport};
use crate::columns::{aligned, dash, grouped, short_ms};
use crate::http::Percentiles;

/// A column: its heading, and what it shows of a row.
type Column<T> = (&'static str, fn(&T) -> String);

const CAPACITY: [Column<CapacityStep>; 10] = [
    ("sockets", |step| grouped(f64::from(step.sockets))),
    ("connects/s", |step| grouped(step.connects_per_s)),
    ("failed", |step| grouped(f64::from(step.failed))),
    ("lost", |step| grouped(step.lost as f64)),
    ("heartbeats", |step| grouped(step.heartbeats as f64)),
    ("probe p50 ms", |step| ms(step.probe_ms.as_ref(), |of| of.p50)),
    ("p99", |step| ms(step.probe_ms.as_ref(), |of| of.p99)),
    ("CPU %", |step| cpu(&step.usages)),
    ("RSS MB", |step| rss(&step.usages)),
    ("KB/socket", |step| step.kb_per_socket.map_or(dash(), |kb| format!("{kb:.2}"))),
];
const ECHO: [Column<Echo>; 9] = [
    ("sockets", |run| grouped(f64::from(run.connections))),
    ("replies/s", |run| grouped(run.per_s)),
    ("errors", |run| grouped(run.errors as f64)),
    ("p50 ms", |run| ms(run.latency_ms.as_ref(), |of| of.p50)),
    ("p99", |run| ms(run.latency_ms.as_ref(), |of| of.p99)),
    ("max", |run| ms(run.latency_ms.as_ref(), |of| of.max)),
    ("CPU %", |run| cpu(&run.usages)),
    ("CPU µs/reply", |run| run.server_cpu_us_per_reply.map_or(dash(), |cpu_us| format!("{cpu_us:.2}"))),
    ("client CPU %", |run| grouped(run.usages.client_cpu_percent())),
];
const FAN_OUT: [Column<FanOut>; 11] = [
    ("subscribers", |run| grouped(f64::from(run.subscribers))),
    ("published/s", |run| grouped(run.publications_per_s)),
    ("deliveries/s", |run| grouped(run.deliveries_per_s)),
    ("p50 ms", |run| ms(run.latency_ms.as_ref(), |of| of.p50)),
    ("p99", |run| ms(run.latency_ms.as_ref(), |of| of.p99)),
    ("p99.9", |run| ms(run.latency_ms.as_ref(), |of| of.p99_9)),
    ("max", |run| ms(run.latency_ms.as_ref(), |of| of.max)),
    ("CPU %", |run| cpu(&run.usages)),
    ("CPU µs/delivery", |run| run.server_cpu_us_per_delivery.map_or(dash(), |cpu_us| format!("{cpu_us:.2}"))),
    ("client CPU %", |run| grouped(run.usages.client_cpu_percent())),
    ("ledger", |run| if run.ledger.is_whole { "whole".to_owned() } else { "BROKEN".to_owned() }),
];

/// The whole report as lines.
pub(super) fn lines(report: &WsReport) -> Vec<String> {
    let mut lines = vec![
        report.provenance.summary(),
        format!("{} · {} client processes · * is the run in the middle", report.urls.join(", "), report.clients),
        String::new(),
    ];
    match &report.outcome {
        Outcome::Capacity(compared) => lines.extend(capacity(compared)),
        Outcome::Echo(compared) => {
            lines.extend(table(&compared_rows(compared), &ECHO));
            lines.extend(compared.ratio.map(|ratio| format!("\n{:.1} % of the reference's replies/s", 100.0 * ratio)));
            lines.extend(compared_rows(compared).iter().flat_map(|(label, run)| causes(label, &run.causes)));
        }
        Outcome::FanOut(compared) => {
            lines.extend(table(&compared_rows(compared), &FAN_OUT));
            lines.extend(compared.ratio.map(|ratio| format!("\n{:.1} % of the reference's deliveries/s", 100.0 * ratio)));
            lines.extend(compared_rows(compared).iter().flat_map(|(label, run)| fan_out_notes(label, run)));
        }
        Outcome::Stuck(stuck) => lines.extend(stuck_lines(stuck)),
    }
    lines
}

fn compared_rows<T>(compared: &Compared<T>) -> Vec<(String, &T)> {
    let mut rows = numbered("run", &compared.runs, compared.median);
    rows.extend(numbered("reference", &compared.reference_runs, compared.reference_median));
    rows
}

fn numbered<'a, T>(label: &str, runs: &'a [T], median: usize) -> Vec<(String, &'a T)> {
    let row = |(idx, run)| (format!("{label} {}{}", idx + 1, if idx == median { " *" } else { "" }), run);
    runs.iter().enumerate().map(row).collect()
}

fn table<T>(rows: &[(String, &T)], columns: &[Column<T>]) -> Vec<String> {
    let heading = std::iter::once(String::new()).chain(columns.iter().map(|(heading, _)| (*heading).to_owned())).collect();
    let body = rows.iter().map(|(label, row)| std::iter::once(label.clone()).chain(columns.iter().map(|(_, shown)| shown(row))).collect());
    aligned(&std::iter::once(heading).chain(body).collect::<Vec<Vec<String>>>())
}

fn capacity(compared: &Compared<Capacity>) -> Vec<String> {
    let mut lines = Vec::new();
    for (label, run) in compared_rows(compared) {
        let rows: Vec<(String, &CapacityStep)> = run.steps.iter().map(|step| (label.clone(), step)).collect();
        lines.extend(table(&rows, &CAPACITY));
        lines.push(match &run.degraded_at {
            Some(at) => format!("{label}: degraded at {} sockets: {}", grouped(f64::from(at.sockets)), at.reason),
            None => format!("{label}: {} sockets, and nothing got worse", grouped(f64::from(run.sustained))),
        });
        if let Some(last) = run.steps.last() {
            lines.extend(causes(&label, &last.causes));
        }
        if let Some(advice) = &run.advice {
            let bound = if advice.is_limit { "" } else { " or more" };
            lines.push(format!(
                "{label}: {}{bound} sockets per worker thread, of which there were {}",
                grouped(f64::from(advice.sockets_per_worker)),
                advice.workers
            ));
            lines.extend(advice.estimates.iter().map(|estimate| {
                format!(
                    "{label}: arithmetic, not measured: {} sockets: {} workers{}, {} MB, {:.0} % CPU idle",
                    grouped(f64::from(estimate.sockets)),
                    estimate.workers,
                    if advice.is_limit { "" } else { " or fewer" },
                    grouped(estimate.memory_bytes as f64 / 1e6),
                    estimate.cpu_percent
                )
            }));
        }
        lines.push(String::new());
    }
    lines
}

fn stuck_lines(stuck: &Stuck) -> Vec<String> {
    let mut rows = numbered("without", &stuck.without, stuck.median_without);
    rows.extend(numbered("with", &stuck.with, stuck.median_with));
    let mut lines = table(&rows, &FAN_OUT);
    lines.extend(stuck.p99_ratio.map(|ratio| format!("\nothers' p99 with stuck readers: {ratio:.2} × that without")));
    lines.extend(rows.iter().flat_map(|(label, run)| fan_out_notes(label, run)));
    lines
}

/// What the figures of a run alone would hide.
fn fan_out_notes(label: &str, run: &FanOut) -> Vec<String> {
    let n = |count: u64| grouped(count as f64);
    let totals = &run.ledger.totals;
    let verdict = if run.ledger.is_whole { "ledger" } else { "LEDGER DOES NOT BALANCE" };
    let mut line = format!(
        "{label} {verdict}: {} published, {} acknowledged, {} received · {} lost · {} twice · {} out of order",
        n(run.published),
        n(run.acknowledged),
        n(totals.received),
        n(totals.lost),
        n(totals.duplicates),
        n(totals.out_of_order)
    );
    let more = [
        (run.ledger.lost_to_all, "LOST TO ALL"),
        (totals.announced_gaps, "announced gaps"),
        (totals.announced_missing, "missing in them"),
        (totals.insufficient_state, "× insufficient state"),
        (totals.recoveries, "recoveries"),
        (totals.recovered, "recovered"),
        (run.in_doubt, "in doubt"),
        (run.unsent, "due and not sent"),
        (run.stalls, "windows given up"),
        (run.lost_connections, "connections lost"),
        (run.reconnects, "made again"),
    ];
    for (count, what) in more.into_iter().filter(|(count, _)| *count > 0) {
        line.push_str(&format!(" · {} {what}", n(count)));
    }
    let mut notes = vec![line];
    notes.extend(causes(label, &run.refused));
    notes.extend(causes(label, &run.causes));
    if !run.stuck.is_empty() {
        let n_closed = run.stuck.iter().filter(|reader| reader.is_closed).count();
        let codes: Vec<String> = run.stuck.iter().filter_map(|reader| reader.code).map(|code| code.to_string()).collect();
        notes.push(format!("{label}: {n_closed} of {} stuck readers closed {}", run.stuck.len(), codes.join(" ")));
    }
    notes.extend(run.memory_growth_percent.map(|growth| format!("{label}: the servers' memory grew {growth:.1} % over the last half")));
    notes
}

fn causes(label: &str, causes: &BTreeMap<String, u64>) -> Vec<String> {
    causes.iter().map(|(cause, count)| format!("{label}: {} × {cause}", grouped(*count as f64))).collect()
}

fn cpu(usages: &Usages) -> String {
    if usages.servers.is_empty() { dash() } else { grouped(usages.server_cpu_percent()) }
}

fn rss(usages: &Usages) -> String {
    if usages.servers.is_empty() { dash() } else { format!("{:.1}", usages.rss_bytes() as f64 / 1e6) }
}

fn ms(percentiles: Option<&Percentiles>, of: fn(&Percentiles) -> f64) -> String {
    percentiles.map_or(dash(), |percentiles| short_ms(of(percentiles)))
}
