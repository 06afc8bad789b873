//! What the runs of one measure came to, as JSON and for people.

use serde::{Deserialize, Serialize};

use crate::columns::{aligned, dash, grouped, short_ms};
use crate::http::{Figures, Percentiles};
use crate::process_tree::TreeUsage;
use crate::provenance::Provenance;

/// All runs of one measure, as it is written to JSON.
#[derive(Debug, Clone, Serialize)]
pub struct IngestReport {
    #[serde(flatten)]
    pub provenance: Provenance,
    pub batch: u32,
    /// Which of the runs is the one in the middle, from 0: by points per second.
    pub median: usize,
    pub runs: Vec<IngestRun>,
}

/// One run on tracks of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IngestRun {
    pub points: u64,
    pub elapsed_s: f64,
    pub points_per_s: f64,
    /// Store and flow: how fast the points were accepted; null otherwise.
    pub accepted_per_s: Option<f64>,
    /// Store and flow: points of the run's tracks when it ended; null otherwise.
    pub stored: Option<u64>,
    /// Flow: from the answer to a point until it could be read; null otherwise.
    pub readable_ms: Option<Percentiles>,
    /// Flow: the points that this was measured with, which are not among the others.
    pub n_probes: u64,
    pub is_balanced: bool,
    pub requests: Figures,
    /// The servers named by --server-pid. Per job means per point of this run.
    pub processes: Vec<TreeUsage>,
}

/// The report for people.
pub(super) fn lines(report: &IngestReport) -> Vec<String> {
    let mut lines = vec![report.provenance.summary(), String::new()];
    let headings = ["run", "points", "s", "points/s", "accepted/s", "stored", "errors", "p50 ms", "p99"];
    let mut cells = vec![headings.map(str::to_owned).to_vec()];
    for (run_idx, run) in report.runs.iter().enumerate() {
        let latency = run.requests.latency_ms.as_ref();
        let mark = if run_idx == report.median { " *" } else { "" };
        cells.push(vec![
            format!("{}{mark}", run_idx + 1),
            grouped(run.points as f64),
            format!("{:.2}", run.elapsed_s),
            grouped(run.points_per_s),
            run.accepted_per_s.map_or(dash(), grouped),
            run.stored.map_or(dash(), |stored| grouped(stored as f64)),
            grouped(run.requests.errors.total as f64),
            latency.map_or(dash(), |latency| short_ms(latency.p50)),
            latency.map_or(dash(), |latency| short_ms(latency.p99)),
        ]);
    }
    lines.extend(aligned(&cells));
    lines.push(String::new());
    lines.extend(report.runs.iter().enumerate().filter_map(|(run_idx, run)| readable(run_idx, run)));
    lines.extend(report.runs[report.median].processes.iter().map(usage));
    lines
}

fn readable(run_idx: usize, run: &IngestRun) -> Option<String> {
    let took = run.readable_ms?;
    let n_unsent = run.requests.schedule.map_or(0, |schedule| schedule.unsent);
    Some(format!(
        "run {}: {} single points beside them could be read {} ms (p50), {} ms (p99), {} ms (max) after their answers; {n_unsent} requests unsent",
        run_idx + 1,
        grouped(run.n_probes as f64),
        short_ms(took.p50),
        short_ms(took.p99),
        short_ms(took.max),
    ))
}

fn usage(usage: &TreeUsage) -> String {
    let per_point = usage.cpu_us_per_job.map_or(dash(), |cpu_us| format!("{cpu_us:.1}"));
    let mib = usage.rss_peak_bytes as f64 / 1_048_576.0;
    let growth = usage.rss_growth_percent.map_or(String::new(), |growth| format!(", {growth:+.1} % over the last half"));
    format!("{} ({}): {:.0} % CPU, {per_point} µs per point, {mib:.0} MiB{growth}", usage.name, usage.pid, usage.cpu_percent)
}
