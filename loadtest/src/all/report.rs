//! The report of `all`, as it is written to JSON and read again. Field names are read by others: keep them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::provenance::Provenance;

/// Everything, with what a reader needs to judge and repeat it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AllReport {
    #[serde(flatten)]
    pub provenance: Provenance,
    pub urls: Vec<String>,
    /// One short run of each part.
    pub is_quick: bool,
    pub promises: Vec<Judged>,
    /// What the platform advises, by number of users.
    pub decisions: Vec<Decision>,
    /// Why `decisions` is empty; null when it is not.
    pub undecided: Option<String>,
    pub parts: Vec<Part>,
}

/// One part: the command that repeats it, and its own report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    pub title: String,
    /// What comes after the program's name, secrets masked.
    pub command: Vec<String>,
    pub elapsed_s: f64,
    /// What it said when it failed; its report may be there all the same.
    pub failure: Option<String>,
    /// As the part wrote it; null when it did not.
    pub report: Value,
}

/// A promise beside what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What it is about: `Response times`, `Throughput`, …
    pub group: String,
    pub what: String,
    pub promised: String,
    /// Null when it was not measured.
    pub measured: Option<String>,
    pub verdict: Verdict,
    /// Why it is so, or how to read it.
    pub why: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Met,
    Missed,
    /// Nobody could keep it on such a machine, whatever the software.
    Refuted,
    NotMeasured,
}

impl Verdict {
    /// In words.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed => "missed",
            Verdict::Refuted => "refuted",
            Verdict::NotMeasured => "not measured",
        }
    }
}

/// How large a platform should be for so many users, from its own `/system/capacity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub users: u64,
    pub tier: String,
    pub nodes: u64,
    /// Figures by name, as in `API_WORKERS`.
    pub figures: Vec<(String, u64)>,
}

impl Decision {
    pub(crate) fn figure(&self, name: &str) -> Option<u64> {
        self.figures.iter().find(|(of, _)| of == name).map(|(_, value)| *value)
    }
}
