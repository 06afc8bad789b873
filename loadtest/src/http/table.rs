//! The table for people: one line per row, and below it what the figures alone would hide.

use super::figures::{Figures, Percentiles};
use super::report::{Report, Row};
use crate::columns::{aligned, dash, grouped, short_ms};

/// A column: its heading, and what it shows of a target (or reference) under a row's load.
struct Column {
    heading: &'static str,
    shown: fn(&Row, &str, &Figures) -> String,
}

const LOAD: [Column; 5] = [
    Column { heading: "target", shown: |_, label, _| label.to_owned() },
    Column { heading: "conns", shown: |row, _, _| grouped(f64::from(row.connections)) },
    Column { heading: "requests", shown: |_, _, figures| grouped(figures.requests as f64) },
    Column { heading: "req/s", shown: |_, _, figures| grouped(figures.per_second) },
    Column { heading: "errors", shown: |_, _, figures| grouped(figures.errors.total as f64) },
];
const SCHEDULE: [Column; 2] = [
    Column { heading: "due/s", shown: |row, _, _| row.rate_per_s.map_or(dash(), grouped) },
    Column { heading: "unsent", shown: |_, _, figures| figures.schedule.map_or(dash(), |schedule| grouped(schedule.unsent as f64)) },
];
const LATENCY: [Column; 6] = [
    Column { heading: "mean ms", shown: |_, _, figures| ms(figures, |of| of.mean) },
    Column { heading: "p50", shown: |_, _, figures| ms(figures, |of| of.p50) },
    Column { heading: "p90", shown: |_, _, figures| ms(figures, |of| of.p90) },
    Column { heading: "p99", shown: |_, _, figures| ms(figures, |of| of.p99) },
    Column { heading: "p99.9", shown: |_, _, figures| ms(figures, |of| of.p99_9) },
    Column { heading: "max", shown: |_, _, figures| ms(figures, |of| of.max) },
];
const SERVER: [Column; 3] = [
    Column { heading: "CPU %", shown: |_, _, figures| figures.server.map_or(dash(), |usage| grouped(usage.cpu_percent)) },
    Column {
        heading: "CPU µs/req",
        shown: |_, _, figures| figures.server_cpu_us_per_request.map_or(dash(), |cpu_us| format!("{cpu_us:.1}")),
    },
    Column {
        heading: "RSS MiB",
        shown: |_, _, figures| {
            let mib = |bytes: u64| format!("{:.1}", bytes as f64 / 1_048_576.0);
            figures.server.map_or(dash(), |usage| mib(usage.rss_peak_bytes))
        },
    },
];

/// The whole table as lines, with the notes that belong to it.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![
        report.provenance.summary(),
        format!(
            "{} · {} threads · {} s after {} s of warm-up · median of {}",
            report.settings.url, report.settings.threads, report.settings.duration_s, report.settings.warmup_s, report.settings.repeat,
        ),
        String::new(),
    ];
    lines.extend(aligned(&cells(report)));
    let notes: Vec<String> = report.rows.iter().flat_map(notes).collect();
    if !notes.is_empty() {
        lines.push(String::new());
        lines.extend(notes);
    }
    lines
}

fn cells(report: &Report) -> Vec<Vec<String>> {
    let is_open = report.rows.iter().any(|row| row.rate_per_s.is_some());
    let has_server = all_figures(report).any(|(_, _, figures)| figures.server.is_some());
    let mut columns: Vec<&Column> = LOAD.iter().collect();
    if is_open {
        columns.extend(&SCHEDULE);
    }
    columns.extend(&LATENCY);
    if has_server {
        columns.extend(&SERVER);
    }
    let heading = columns.iter().map(|column| column.heading.to_owned()).collect();
    let body = all_figures(report).map(|(row, label, figures)| {
        let shown = columns.iter().map(|column| (column.shown)(row, label, figures));
        shown.collect()
    });
    std::iter::once(heading).chain(body).collect()
}

fn all_figures(report: &Report) -> impl Iterator<Item = (&Row, &str, &Figures)> {
    report.rows.iter().flat_map(|row| {
        let target = (row, row.target.as_str(), &row.median);
        let reference = row.reference.as_ref();
        std::iter::once(target).chain(reference.map(|of| (row, "  reference", &of.median)))
    })
}

/// What the figures of a row alone would hide.
fn notes(row: &Row) -> Vec<String> {
    let figures = &row.median;
    let load = match row.rate_per_s {
        Some(rate) => format!("{} at {}/s", row.target, grouped(rate)),
        None => format!("{} over {} connections", row.target, row.connections),
    };
    let mut notes = Vec::new();
    if let Some(ratio) = row.reference.as_ref().and_then(|reference| reference.ratio) {
        notes.push(format!("{load}: {:.1} % of the reference's req/s", 100.0 * ratio));
    }
    let causes = error_causes(figures);
    if !causes.is_empty() {
        notes.push(format!("{load}: errors are {}", causes.join(", ")));
    }
    if figures.statuses.contains_key(&429) {
        notes.push(format!("{load}: 429 is the rate limit; raise RATE_LIMIT_… to measure"));
    }
    if let (Some(schedule), Some(service)) = (figures.schedule, figures.service_time_ms) {
        let late = 100.0 * schedule.late as f64 / schedule.offered.max(1) as f64;
        notes.push(format!(
            "{load}: {late:.1} % sent over 1 ms late; once sent, p50 {} and p99 {} ms",
            short_ms(service.p50),
            short_ms(service.p99),
        ));
    }
    if figures.reconnects > 0 {
        notes.push(format!("{load}: {} connections made again", figures.reconnects));
    }
    if figures.unconnected > 0 {
        notes.push(format!("{load}: {} connections not made at first", figures.unconnected));
    }
    notes
}

fn error_causes(figures: &Figures) -> Vec<String> {
    let is_ok = |status: u16| (200..300).contains(&status);
    let refused = figures.statuses.iter().filter(|(status, _)| !is_ok(**status));
    let mut causes: Vec<String> = refused.map(|(status, count)| format!("{} × {status}", grouped(*count as f64))).collect();
    let errors = figures.errors;
    let others = [
        (errors.timeouts, "timeout"),
        (errors.closed, "connection broken"),
        (errors.malformed, "not HTTP"),
        (errors.connect_failures, "cannot connect"),
    ];
    let seen = others.into_iter().filter(|(count, _)| *count > 0);
    causes.extend(seen.map(|(count, cause)| format!("{} × {cause}", grouped(count as f64))));
    causes
}

fn ms(figures: &Figures, of: fn(&Percentiles) -> f64) -> String {
    figures.latency_ms.as_ref().map_or(dash(), |latency| short_ms(of(latency)))
}
