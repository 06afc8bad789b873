//! The report of `saturation`, as it is written to JSON and for people. Field names are read by others: keep them.

use serde::{Deserialize, Serialize};

use crate::columns::{aligned, dash, grouped, short_ms};
use crate::provenance::Provenance;

/// Longest that answers may take to be as before.
pub(super) const RECOVERED_WITHIN_S: f64 = 1.0;

/// One row for each resource.
#[derive(Debug, Clone, Serialize)]
pub struct SaturationReport {
    #[serde(flatten)]
    pub provenance: Provenance,
    pub url: String,
    pub rows: Vec<Saturated>,
}

/// What came of taking all there is of something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Saturated {
    pub resource: String,
    /// Connections that were let in, and still there when they were given back; of the pool, those that sent requests.
    pub held: u32,
    /// Connections that were told no, or nothing for a second: those wait in the backlog. Of the pool, requests that were answered 4xx or 5xx.
    pub refused: u64,
    /// What the first that was refused was told; null when none was, because --max was reached before.
    pub refusal: Option<String>,
    /// Connections let in per second, or answers of the load.
    pub per_second: f64,
    /// Of the probes on connections that were open before, while all was held.
    pub health_max_ms: f64,
    pub health_failed: u64,
    /// From the release until three requests in a row on new connections were answered in 100 ms (of sockets: three were let in); null if that
    /// did not come.
    pub recovered_after_s: Option<f64>,
    /// The server's highest resident memory; null without --server-pid.
    pub rss_peak_bytes: Option<u64>,
    pub is_kept: bool,
}

/// The report for people.
pub(super) fn lines(report: &SaturationReport) -> Vec<String> {
    let mut lines = vec![report.provenance.summary(), report.url.clone(), String::new()];
    let headings = ["resource", "held", "refused", "per s", "probes max ms", "failed", "RSS MiB", "recovered s", "within 1 s"];
    let mut cells = vec![headings.map(str::to_owned).to_vec()];
    cells.extend(report.rows.iter().map(|row| {
        vec![
            row.resource.clone(),
            grouped(f64::from(row.held)),
            grouped(row.refused as f64),
            grouped(row.per_second),
            short_ms(row.health_max_ms),
            grouped(row.health_failed as f64),
            row.rss_peak_bytes.map_or(dash(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0)),
            row.recovered_after_s.map_or(dash(), |s| format!("{s:.3}")),
            if row.is_kept { "kept" } else { "MISSED" }.to_owned(),
        ]
    }));
    lines.extend(aligned(&cells));
    let told =
        |row: &Saturated| row.refusal.as_ref().map(|refusal| format!("{}: the first that was refused was told: {refusal}", row.resource));
    lines.extend(report.rows.iter().filter_map(told));
    let room = |row: &Saturated| (row.refused == 0).then(|| format!("{}: none was refused, so its limit was not reached", row.resource));
    lines.extend(report.rows.iter().filter_map(room));
    lines
}
