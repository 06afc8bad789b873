//! The report of `overload`, as it is written to JSON and for people. Field names are read by others: keep them.

use serde::{Deserialize, Serialize};

use super::args::Mix;
use crate::columns::{aligned, dash, grouped, short_ms};
use crate::http::{Figures, Percentiles};
use crate::jobs::Ledger;
use crate::provenance::Provenance;

/// Peak, loads and ledger.
#[derive(Debug, Clone, Serialize)]
pub struct OverloadReport {
    #[serde(flatten)]
    pub provenance: Provenance,
    pub url: String,
    pub mix: Mix,
    /// Points of one request.
    pub batch: u32,
    /// Connections of the loads.
    pub connections: u32,
    pub deadline_s: f64,
    pub peak: Peak,
    pub loads: Vec<Load>,
    pub ledger: Ledger,
    pub points: Points,
    /// Whether the ledgers of jobs and points balance.
    pub is_balanced: bool,
    pub verdicts: Vec<Verdict>,
}

/// The best of the closed loops.
#[derive(Debug, Clone, Serialize)]
pub struct Peak {
    pub connections: u32,
    /// 2xx answers per second, each within the deadline.
    pub per_second: f64,
    /// The same after the loads.
    pub afterwards: Option<PeakRun>,
    /// One for each number of connections.
    pub runs: Vec<PeakRun>,
    /// Highest resident memory of --server-pid over all of them; null without.
    pub rss_peak_bytes: Option<u64>,
}

impl Peak {
    /// Between what it was before the loads and after them: what loads are compared with.
    pub fn mean_per_s(&self) -> f64 {
        self.afterwards.as_ref().map_or(self.per_second, |after| self.per_second.midpoint(after.goodput_per_s))
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct PeakRun {
    pub connections: u32,
    pub goodput_per_s: f64,
    pub figures: Figures,
}

/// One load on a schedule that does not wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// As a multiple of the peak.
    pub times_peak: f64,
    pub rate_per_s: f64,
    /// 2xx answers per second, each within the deadline of its sending.
    pub goodput_per_s: f64,
    /// Of the mean of the peak before all loads and after them.
    pub goodput_share: f64,
    /// Answers of 503 per second of measured time.
    pub shed_per_s: f64,
    /// What 99 % of the decisions to shed took at most, by the server's own histogram: the bound of a bucket. Null when nothing was shed.
    pub shed_decided_p99_ms: Option<f64>,
    pub health: Probed,
    pub readiness: Probed,
    /// From the end of the load until ten reads in a row were as at peace; null when that did not come within 30 s.
    pub recovered_after_s: Option<f64>,
    pub figures: Figures,
}

/// What probes met, from when they were due. Milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probed {
    pub probes: u64,
    /// Answers that were not 200, or none.
    pub failed: u64,
    pub latency_ms: Option<Percentiles>,
}

/// Points that were accepted, and those that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Points {
    pub accepted: u64,
    pub stored: u64,
    /// Points of requests that got no answer, or 5xx: they may be there.
    pub in_doubt: u64,
}

impl Points {
    pub(super) fn balance(self) -> bool {
        (self.accepted..=self.accepted + self.in_doubt).contains(&self.stored)
    }
}

/// A promise beside what was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verdict {
    pub promise: String,
    pub measured: String,
    pub is_kept: bool,
}

/// What is promised under loads above the peak.
pub(super) fn verdicts(report: &OverloadReport) -> Vec<Verdict> {
    let calm = report.loads.iter().find(|load| load.times_peak < 1.0);
    let calm_p99_ms = calm.and_then(|load| load.figures.service_time_ms).map(|took| took.p99);
    let mut verdicts = Vec::new();
    for load in report.loads.iter().filter(|load| load.times_peak > 1.0) {
        let mut say = |promise: &str, measured: String, is_kept| {
            verdicts.push(Verdict { promise: format!("{}x: {promise}", load.times_peak), measured, is_kept });
        };
        say("goodput at least 90 % of the peak", format!("{:.1} %", 100.0 * load.goodput_share), load.goodput_share >= 0.9);
        match load.shed_decided_p99_ms {
            Some(p99_ms) => say("shed within 10 ms (p99)", format!("{p99_ms} ms"), p99_ms <= 10.0),
            // Then there were places for all that came: more connections, or a lower API_CONCURRENCY_LIMIT, would tell.
            None => say("shed within 10 ms (p99)", "nothing was shed: the limit was not reached".into(), false),
        }
        let probes = [&load.health, &load.readiness].into_iter().filter_map(|probed| probed.latency_ms);
        let slowest_ms = probes.map(|took| took.max).fold(0.0, f64::max);
        let n_failed = load.health.failed + load.readiness.failed;
        say("probes answered within 100 ms", format!("{slowest_ms:.1} ms, {n_failed} failed"), slowest_ms < 100.0 && n_failed == 0);
        if let (Some(peak), Some(now)) = (report.peak.rss_peak_bytes, load.figures.server) {
            let ratio = now.rss_peak_bytes as f64 / peak as f64;
            say("memory at most 1.5 times that at the peak", format!("{ratio:.2}"), ratio <= 1.5);
        }
        let recovered = load.recovered_after_s;
        say("recovered within 10 s", recovered.map_or(dash(), |s| format!("{s:.2} s")), recovered.is_some_and(|s| s < 10.0));
        if let (Some(calm), Some(now)) = (calm_p99_ms, load.figures.service_time_ms) {
            say(
                "p99 of what was accepted at most twice that below the peak",
                format!("{:.1} times", now.p99 / calm),
                now.p99 <= 2.0 * calm,
            );
        }
    }
    verdicts.push(Verdict {
        promise: "nothing that was accepted is lost".into(),
        measured: format!("{} jobs missing, {} points of {} stored", report.ledger.missing, report.points.stored, report.points.accepted),
        is_kept: report.is_balanced,
    });
    verdicts
}

/// The report for people.
pub(super) fn lines(report: &OverloadReport) -> Vec<String> {
    let Mix { reads, jobs, points } = report.mix;
    let mut lines = vec![
        report.provenance.summary(),
        format!(
            "{} · {reads} reads, {jobs} submits, {points} of {} points · peak {}/s over {} connections",
            report.url,
            report.batch,
            grouped(report.peak.per_second),
            report.peak.connections
        ),
        String::new(),
    ];
    let headings = [
        "load",
        "due/s",
        "good/s",
        "share",
        "shed/s",
        "unsent",
        "p50 ms",
        "p99",
        "shed p99",
        "probes p99",
        "max",
        "RSS MiB",
        "CPU %",
        "own CPU %",
        "recovered s",
    ];
    let mut cells = vec![headings.map(str::to_owned).to_vec()];
    cells.extend(report.peak.runs.iter().map(peak_cells));
    cells.extend(report.loads.iter().map(load_cells));
    cells.extend(report.peak.afterwards.iter().map(peak_cells));
    lines.extend(aligned(&cells));
    lines.push(String::new());
    lines.push(report.ledger.shown());
    let Points { accepted, stored, in_doubt } = report.points;
    lines.push(format!(
        "{} points accepted, {} stored, {} in doubt",
        grouped(accepted as f64),
        grouped(stored as f64),
        grouped(in_doubt as f64)
    ));
    lines.push(String::new());
    let shown =
        |verdict: &Verdict| format!("{} {}: {}", if verdict.is_kept { "kept  " } else { "MISSED" }, verdict.promise, verdict.measured);
    lines.extend(report.verdicts.iter().map(shown));
    lines
}

fn peak_cells(run: &PeakRun) -> Vec<String> {
    let mut cells = vec![format!("{} closed", run.connections), dash(), grouped(run.goodput_per_s), dash(), dash(), dash()];
    cells.extend(common(&run.figures));
    cells.splice(8..8, [dash(), dash(), dash()]);
    cells.push(dash());
    cells
}

fn load_cells(load: &Load) -> Vec<String> {
    let mut cells = vec![
        format!("{}x", load.times_peak),
        grouped(load.rate_per_s),
        grouped(load.goodput_per_s),
        format!("{:.1} %", 100.0 * load.goodput_share),
        grouped(load.shed_per_s),
        load.figures.schedule.map_or(dash(), |schedule| grouped(schedule.unsent as f64)),
    ];
    cells.extend(common(&load.figures));
    let both = [&load.health, &load.readiness].map(|probed| probed.latency_ms);
    let slowest = |of: fn(&Percentiles) -> f64| short_ms(both.iter().flatten().map(of).fold(0.0, f64::max));
    let shed = load.shed_decided_p99_ms.map_or(dash(), |ms| format!("≤ {ms}"));
    cells.splice(8..8, [shed, slowest(|took| took.p99), slowest(|took| took.max)]);
    cells.push(load.recovered_after_s.map_or(dash(), |s| format!("{s:.2}")));
    cells
}

/// Latency from sending, memory, CPU of the server and of ourselves.
fn common(figures: &Figures) -> [String; 5] {
    let took = figures.service_time_ms.or(figures.latency_ms);
    let ms = |of: fn(&Percentiles) -> f64| took.as_ref().map_or(dash(), |took| short_ms(of(took)));
    let server = figures.server;
    [
        ms(|took| took.p50),
        ms(|took| took.p99),
        server.map_or(dash(), |usage| format!("{:.1}", usage.rss_peak_bytes as f64 / 1_048_576.0)),
        server.map_or(dash(), |usage| grouped(usage.cpu_percent)),
        figures.generator.map_or(dash(), |usage| grouped(usage.cpu_percent)),
    ]
}
