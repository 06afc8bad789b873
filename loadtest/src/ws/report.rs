//! The report of a command, as it is written to JSON. Field names are read by others: keep them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::client::Totals;
use super::meter::Usages;
use crate::http::Percentiles;
use crate::provenance::Provenance;

/// All runs of one measure.
#[derive(Debug, Clone, Serialize)]
pub struct WsReport {
    #[serde(flatten)]
    pub provenance: Provenance,
    pub urls: Vec<String>,
    pub reference_url: Option<String>,
    /// Client processes.
    pub clients: u32,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Capacity(Compared<Capacity>),
    Echo(Compared<Echo>),
    FanOut(Compared<FanOut>),
    Stuck(Stuck),
}

/// The platform's runs, and those of the reference made in turns with them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Compared<T> {
    /// Which of the runs is the one in the middle, from 0.
    pub median: usize,
    pub runs: Vec<T>,
    /// Empty without --reference-url.
    pub reference_median: usize,
    pub reference_runs: Vec<T>,
    /// The figure of the run in the middle over that of the reference's.
    pub ratio: Option<f64>,
}

/// What opening sockets came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Opening {
    pub opened: u32,
    pub failed: u32,
    /// Connected, authenticated and subscribed.
    pub connects_per_s: f64,
    /// Why sockets failed.
    pub causes: BTreeMap<String, u64>,
}

/// One ramp.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Capacity {
    pub channels: u32,
    /// The servers' memory before the first socket of the first run.
    pub rss_before_bytes: u64,
    pub steps: Vec<CapacityStep>,
    /// The first step that was worse than those before, and why; null when none was.
    pub degraded_at: Option<Degradation>,
    /// Sockets of the last step that was not.
    pub sustained: u32,
    pub kb_per_socket: Option<f64>,
    pub advice: Option<Advice>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CapacityStep {
    /// Sockets subscribed at its end.
    pub sockets: u32,
    pub opened: u32,
    pub failed: u32,
    /// Sockets lost while it was held.
    pub lost: u64,
    pub connects_per_s: f64,
    /// Heartbeats answered since the ramp began.
    pub heartbeats: u64,
    pub closes: BTreeMap<u16, u64>,
    pub causes: BTreeMap<String, u64>,
    /// A request and its reply now and then while the step was held.
    pub probe_ms: Option<Percentiles>,
    /// While the step was held; memory at its end.
    pub usages: Usages,
    /// Memory above that before the first socket, by the number of sockets, in units of 1,000 bytes.
    pub kb_per_socket: Option<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Degradation {
    pub sockets: u32,
    pub reason: String,
}

/// How many sockets a worker thread may hold, and what that means for many. Arithmetic, not measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Advice {
    /// Worker threads of all servers measured.
    pub workers: u32,
    pub sockets_per_worker: u32,
    /// False when the ramp ended before anything got worse: more may be possible.
    pub is_limit: bool,
    pub estimates: Vec<Estimate>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Estimate {
    pub sockets: u32,
    pub workers: u32,
    pub memory_bytes: u64,
    /// Idle, heartbeats included.
    pub cpu_percent: f64,
}

/// One run of requests and replies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Echo {
    pub connections: u32,
    pub replies: u64,
    pub errors: u64,
    /// Why requests failed, and sockets.
    #[serde(default)]
    pub causes: BTreeMap<String, u64>,
    pub per_s: f64,
    pub latency_ms: Option<Percentiles>,
    pub server_cpu_us_per_reply: Option<f64>,
    pub opening: Opening,
    pub usages: Usages,
}

/// One run of publications.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FanOut {
    pub subscribers: u32,
    pub channels: u32,
    pub publishers: u32,
    /// Open loop: publications due per second; null in the closed loop.
    pub rate_per_s: Option<f64>,
    /// Closed loop: publications on their way at once on each channel.
    pub window: Option<u32>,
    pub opening: Opening,
    /// All publications, those of the warm-up too.
    pub published: u64,
    pub acknowledged: u64,
    pub refused: BTreeMap<String, u64>,
    /// Sent, and neither acknowledged nor refused.
    pub in_doubt: u64,
    /// Open loop: due and never sent.
    pub unsent: u64,
    /// Closed loop: windows that nothing arrived in for a second.
    pub stalls: u64,
    pub publications_per_s: f64,
    pub deliveries_per_s: f64,
    /// From publishing (open loop: from when it was due) to receiving.
    pub latency_ms: Option<Percentiles>,
    pub ledger: Ledger,
    /// Connections lost, and made again.
    pub lost_connections: u64,
    pub reconnects: u64,
    /// Close and unsubscribe codes.
    pub closes: BTreeMap<u16, u64>,
    pub causes: BTreeMap<String, u64>,
    pub stuck: Vec<StuckReader>,
    pub server_cpu_us_per_delivery: Option<f64>,
    pub usages: Usages,
    /// Growth of the servers' memory over the last half of the run; null when it was too short.
    pub memory_growth_percent: Option<f64>,
}

/// Every subscriber's account, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    #[serde(flatten)]
    pub totals: Totals,
    /// Of `lost`, those after the last one that a subscriber got: others of its channel got more.
    pub lost_at_the_end: u64,
    /// Acknowledged publications that nobody got.
    pub lost_to_all: u64,
    /// True when every subscriber got every offset once and in order, or was told that it would not.
    pub is_whole: bool,
}

/// How the server parted from a reader that never read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct StuckReader {
    pub is_closed: bool,
    /// When its end of the stream was seen: what is left unread may hide it until the run is over.
    pub seen_after_s: Option<f64>,
    /// The close code, when it could still be read.
    pub code: Option<u16>,
}

/// The same load without stuck readers and with them, in turns.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stuck {
    pub median_without: usize,
    pub without: Vec<FanOut>,
    pub median_with: usize,
    pub with: Vec<FanOut>,
    /// The others' p99 with stuck readers over that without.
    pub p99_ratio: Option<f64>,
}

impl<T> Compared<T> {
    /// Puts runs in order by their figure, of which more is better.
    pub(super) fn new(runs: Vec<T>, reference_runs: Vec<T>, figure: impl Fn(&T) -> f64) -> Self {
        let (median, reference_median) = (middle(&runs, &figure), middle(&reference_runs, &figure));
        let ratio = runs.get(median).zip(reference_runs.get(reference_median)).map(|(ours, theirs)| figure(ours) / figure(theirs));
        Self { median, runs, reference_median, reference_runs, ratio: ratio.filter(|ratio| ratio.is_finite()) }
    }
}

/// The run in the middle, the lower of two: its figures belong together, which medians of each would not.
pub(super) fn middle<T>(runs: &[T], figure: impl Fn(&T) -> f64) -> usize {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by(|a, b| figure(&runs[*a]).total_cmp(&figure(&runs[*b])));
    order.get(runs.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

impl WsReport {
    /// The ledgers that do not balance.
    pub(super) fn n_broken_ledgers(&self) -> usize {
        let broken = |runs: &[FanOut]| runs.iter().filter(|run| !run.ledger.is_whole).count();
        match &self.outcome {
            Outcome::Capacity(_) | Outcome::Echo(_) => 0,
            Outcome::FanOut(compared) => broken(&compared.runs) + broken(&compared.reference_runs),
            Outcome::Stuck(stuck) => broken(&stuck.without) + broken(&stuck.with),
        }
    }
}
