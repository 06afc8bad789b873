//! What a reader must know of any report: what made it, when, how and where. Flattened into the report.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::http::masked;
use crate::machine::Machine;

/// The head of a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Provenance {
    pub tool: String,
    pub version: String,
    /// The command line, secrets masked.
    pub command: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub date: OffsetDateTime,
    pub machine: Machine,
}

impl Provenance {
    /// Of this process, now.
    pub(crate) fn here() -> Self {
        Self {
            tool: "millrace-loadtest".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: masked(std::env::args()),
            date: OffsetDateTime::now_utc(),
            machine: Machine::read(),
        }
    }

    /// One line for people.
    pub(crate) fn summary(&self) -> String {
        format!("{} {} · {}", self.tool, self.version, self.machine.summary())
    }
}

/// A name that no other run has, here or of another command at the same time: their queues must not meet.
pub(crate) fn run_name(prefix: &str) -> String {
    format!("{prefix}-{}-{}", std::process::id(), OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000)
}
