//! The report of a command, as it is written to JSON. Field names are read by others: keep them.

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use crate::http::{Figures, Percentiles};
use crate::process_tree::TreeUsage;
use crate::provenance::Provenance;

/// All runs of one measure.
#[derive(Debug, Clone, Serialize)]
pub struct JobsReport {
    #[serde(flatten)]
    pub provenance: Provenance,
    /// `enqueue`, `drain` or `pickup`.
    pub measure: &'static str,
    pub url: String,
    /// Jobs per request; null for pickup.
    pub bulk: Option<u32>,
    /// Connections that submit; null for pickup, which uses one.
    pub connections: Option<u32>,
    /// Which of the runs is the one in the middle, from 0: by jobs per second, for pickup by the median time to start.
    pub median: usize,
    pub runs: Vec<Run>,
}

/// One run on a queue of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub queue: String,
    /// Enqueue: jobs accepted in the measured time. Drain and pickup: all jobs.
    pub jobs: u64,
    pub elapsed_s: f64,
    pub jobs_per_s: f64,
    /// Drain: how fast the queue was filled; null otherwise.
    pub submit_jobs_per_s: Option<f64>,
    pub ledger: Ledger,
    pub is_balanced: bool,
    /// Enqueue: the requests of the measured time; null otherwise.
    pub requests: Option<Figures>,
    pub pickup: Option<Pickup>,
    /// Drain with --watchers: sockets that still watched at the end; null otherwise.
    pub n_watching: Option<u32>,
    /// The servers named by --server-pid. Per job means per job of this run.
    pub processes: Vec<TreeUsage>,
    /// Enqueue with --reference-url: what that server answered per second to the same load.
    pub reference_per_s: Option<f64>,
}

/// Times of single jobs on idle workers, in milliseconds, by the platform's own clocks unless said otherwise.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Pickup {
    /// `started_at` − `created_at`: from the submit's arrival over its commit and announcement to the attempt's start.
    pub started_ms: Percentiles,
    /// `finished_at` − `created_at`.
    pub ended_ms: Percentiles,
    /// As the client sees it: from sending the submit to its answer, which with --wait brings the result.
    pub answered_ms: Percentiles,
}

impl JobsReport {
    pub fn median_run(&self) -> &Run {
        &self.runs[self.median]
    }
}
