//! The report of a command, as it is written to JSON. Field names are read by others: keep them.

use serde::{Deserialize, Serialize};

use super::figures::Figures;
use crate::provenance::Provenance;

/// All rows, with what a reader needs to judge and repeat them.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub provenance: Provenance,
    pub settings: Settings,
    pub rows: Vec<Row>,
}

/// What all rows have in common.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    pub url: String,
    pub reference_url: Option<String>,
    pub threads: u32,
    pub repeat: u32,
    pub duration_s: f64,
    pub warmup_s: f64,
    pub timeout_s: f64,
}

/// One target under one load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub target: String,
    pub connections: u32,
    pub mode: Mode,
    /// Requests due per second; null in the closed loop.
    pub rate_per_s: Option<f64>,
    pub median: Figures,
    pub runs: Vec<Figures>,
    pub reference: Option<Reference>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Closed,
    Open,
}

/// The server compared with, measured in turns with the target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reference {
    pub median: Figures,
    pub runs: Vec<Figures>,
    /// 2xx responses per second of the target over those of the reference; null when the
    /// reference gave none.
    pub ratio: Option<f64>,
}

/// Options whose value must not be written down.
const SECRET_OPTIONS: [&str; 4] = ["--token", "--password", "--header", "-H"];

/// The command line with its secrets masked. Headers are masked whole: any may be a credential.
pub(crate) fn masked(command: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut is_secret_next = false;
    command
        .into_iter()
        .map(|word| {
            let is_secret = std::mem::replace(&mut is_secret_next, false);
            if is_secret {
                return "***".to_owned();
            }
            is_secret_next = SECRET_OPTIONS.contains(&word.as_str());
            match word.split_once('=') {
                Some((option, _)) if SECRET_OPTIONS.contains(&option) => format!("{option}=***"),
                Some(_) | None if word.starts_with("-H") && word.len() > 2 => "-H***".to_owned(),
                Some(_) | None => word,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_reach_the_report() {
        let command = "x http --token abc --password=abc -H abc -Habc --email a@b --header=abc";
        let shown = masked(command.split(' ').map(str::to_owned)).join(" ");
        let expected = "x http --token *** --password=*** -H *** -H*** --email a@b --header=***";
        assert_eq!(shown, expected);
    }
}
