//! What is drawn of each part. A part without figures leaves its charts out.

use super::chart::{Chart, Kind, Scale, Series};
use crate::all::findings::Findings;
use crate::columns::grouped;
use crate::http::{Mode, Percentiles, Row};
use crate::overload::Load;

/// Promised requests per second, by users.
const PROMISED: [(u32, f64); 5] = [(100, 5_000.0), (1_000, 15_000.0), (5_000, 30_000.0), (10_000, 40_000.0), (24_000, 50_000.0)];

pub(super) fn all(findings: Findings<'_>) -> String {
    let mut charts = ladder(findings);
    charts.extend(reads(findings));
    charts.extend(sockets(findings));
    charts.push(work(findings));
    charts.push(uploads(findings));
    charts.push(overload(findings));
    charts.iter().map(Chart::html).collect()
}

fn latency(rows: &[Row], of: fn(&Percentiles) -> f64) -> Vec<Option<f64>> {
    rows.iter().map(|row| row.median.latency_ms.as_ref().map(of)).collect()
}

fn ladder(findings: Findings<'_>) -> Vec<Chart> {
    let rows: Vec<Row> = findings.rows("ladder").into_iter().filter(|row| row.mode == Mode::Closed).collect();
    let steps: Vec<String> = rows.iter().map(|row| grouped(f64::from(row.connections))).collect();
    let promised = |row: &Row| PROMISED.iter().find(|(users, _)| *users == row.connections).map(|(_, per_s)| *per_s);
    let chart = |title, unit, scale, series| Chart { title, steps_of: "connections", steps: steps.clone(), unit, scale, series };
    let of_server = |of: &dyn Fn(&crate::Usage) -> f64| rows.iter().map(|row| row.median.server.as_ref().map(of)).collect::<Vec<_>>();
    vec![
        chart(
            "Requests by connections",
            "requests per second",
            Scale::Linear,
            vec![
                Series::measured("measured", rows.iter().map(|row| Some(row.median.per_second)).collect()),
                Series { name: "promised", values: rows.iter().map(promised).collect(), kind: Kind::Promised },
            ],
        ),
        chart(
            "Latency by connections",
            "ms",
            Scale::Log,
            vec![
                Series::measured("mean", latency(&rows, |took| took.mean)),
                Series::measured("p99", latency(&rows, |took| took.p99)),
                Series::measured("p99.9", latency(&rows, |took| took.p99_9)),
            ],
        ),
        chart(
            "Memory of the API by connections",
            "MB",
            Scale::Linear,
            vec![Series::measured("at most", of_server(&|usage| usage.rss_peak_bytes as f64 / 1e6))],
        ),
    ]
}

fn reads(findings: Findings<'_>) -> Vec<Chart> {
    let rows = findings.rows("reads");
    let peak = rows.iter().find(|row| row.mode == Mode::Closed).map_or(0.0, |row| row.median.per_second);
    let open: Vec<Row> = rows.into_iter().filter(|row| row.mode == Mode::Open).collect();
    let times = |row: &Row| {
        row.rate_per_s.filter(|_| peak > 0.0).map_or_else(String::new, |rate| format!("{}×", (10.0 * rate / peak).round() / 10.0))
    };
    let steps: Vec<String> = open.iter().map(times).collect();
    let chart =
        |title, unit, scale, series| Chart { title, steps_of: "load, in multiples of the peak", steps: steps.clone(), unit, scale, series };
    vec![
        chart(
            "Reads: due and answered",
            "per second",
            Scale::Linear,
            vec![
                Series::measured("answered with 2xx", open.iter().map(|row| Some(row.median.per_second)).collect()),
                Series { name: "due", values: open.iter().map(|row| row.rate_per_s).collect(), kind: Kind::Promised },
            ],
        ),
        chart(
            "Reads: time from when they were due",
            "ms",
            Scale::Log,
            vec![Series::measured("p50", latency(&open, |took| took.p50)), Series::measured("p99", latency(&open, |took| took.p99))],
        ),
    ]
}

fn sockets(findings: Findings<'_>) -> Vec<Chart> {
    let capacity = findings.capacity();
    let steps_of =
        |of: &dyn Fn(&crate::ws::CapacityStep) -> Option<f64>| capacity.iter().flat_map(|run| &run.steps).map(of).collect::<Vec<_>>();
    let names: Vec<String> = capacity.iter().flat_map(|run| &run.steps).map(|step| grouped(f64::from(step.sockets))).collect();
    let megabytes = |step: &crate::ws::CapacityStep| {
        let bytes: u64 = step.usages.servers.iter().map(|server| server.usage.rss_bytes).sum();
        (bytes > 0).then_some(bytes as f64 / 1e6)
    };
    let chart = |title, unit, series| Chart { title, steps_of: "sockets", steps: names.clone(), unit, scale: Scale::Linear, series };
    vec![
        chart("Memory of the API by sockets", "MB", vec![Series::measured("resident", steps_of(&megabytes))]),
        chart(
            "Connects, authenticated and subscribed",
            "per second",
            vec![Series::measured("connects", steps_of(&|step| Some(step.connects_per_s)))],
        ),
    ]
}

fn work(findings: Findings<'_>) -> Chart {
    let drained = findings.jobs("jobs");
    let figures = [
        ("single submits", findings.jobs("submits").map(|run| run.jobs_per_s)),
        ("bulk submits", drained.as_ref().and_then(|run| run.submit_jobs_per_s)),
        ("jobs drained", drained.as_ref().map(|run| run.jobs_per_s)),
        ("points stored", findings.points().map(|run| run.points_per_s)),
    ];
    let known: Vec<_> = figures.into_iter().filter(|(_, value)| value.is_some()).collect();
    Chart {
        title: "Jobs and points",
        steps_of: "what",
        steps: known.iter().map(|(name, _)| (*name).to_owned()).collect(),
        unit: "per second",
        scale: Scale::Log,
        series: vec![Series { name: "per second", values: known.iter().map(|(_, value)| *value).collect(), kind: Kind::Apart }],
    }
}

fn uploads(findings: Findings<'_>) -> Chart {
    let steps = findings.files();
    Chart {
        title: "Uploads of 10 MiB",
        steps_of: "uploads at once",
        steps: steps.iter().map(|step| step.connections.to_string()).collect(),
        unit: "MiB per second",
        scale: Scale::Linear,
        series: vec![Series::measured("all together", steps.iter().map(|step| Some(step.mib_per_s)).collect())],
    }
}

fn overload(findings: Findings<'_>) -> Chart {
    let loads = findings.loads();
    let figure = |of: fn(&Load) -> f64| loads.iter().map(|load| Some(of(load))).collect::<Vec<_>>();
    Chart {
        title: "Overload: what is still answered",
        steps_of: "load, in multiples of the peak",
        steps: loads.iter().map(|load| format!("{}×", load.times_peak)).collect(),
        unit: "per second",
        scale: Scale::Linear,
        series: vec![
            Series::measured("answered in time", figure(|load| load.goodput_per_s)),
            Series::measured("shed with 503", figure(|load| load.shed_per_s)),
            Series { name: "due", values: figure(|load| load.rate_per_s), kind: Kind::Promised },
        ],
    }
}
