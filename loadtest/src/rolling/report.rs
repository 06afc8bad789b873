//! The report of a command, as it is written to JSON, and its lines for people. Field names are read by others: keep them.

use serde::Serialize;

use super::callers::{Requests, Submits};
use crate::columns::{aligned, grouped, short_ms};
use crate::jobs::{Ledger, Rest};
use crate::provenance::Provenance;
use crate::ws::Heard;

/// What a restart did to callers.
#[derive(Debug, Clone, Serialize)]
pub struct RollingReport {
    #[serde(flatten)]
    pub provenance: Provenance,
    pub url: String,
    /// How long the command took that restarted processes.
    pub command_s: f64,
    pub gets: Requests,
    pub submits: Submits,
    /// Requests that waited for a job, without a key.
    pub waits: Requests,
    /// The jobs of `submits`, looked up afterwards.
    pub ledger: Ledger,
    pub sockets: Heard,
    /// What callers noticed; empty when it is well.
    pub violations: Vec<String>,
}

impl RollingReport {
    /// Everything that a restart must not do.
    pub(super) fn find_violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |is_well: bool, words: String| {
            if !is_well {
                found.push(words);
            }
        };
        let (gets, submits, waits, sockets) = (&self.gets, &self.submits, &self.waits, &self.sockets);
        check(gets.failed == 0, format!("{} GETs failed: {:?}", gets.failed, gets.causes));
        check(waits.failed == 0, format!("{} waits failed: {:?}", waits.failed, waits.causes));
        check(submits.given_up == 0, format!("{} submits were given up: {:?}", submits.given_up, submits.causes));
        check(submits.contradicted == 0, format!("{} repeated submits named another job", submits.contradicted));
        check(self.ledger.balances(Rest::AllHaveEnded), format!("the ledger does not balance: {}", self.ledger.shown()));
        check(self.ledger.run_again == 0, format!("{} jobs ran more than once", self.ledger.run_again));
        let heard = &sockets.ledger.totals;
        check(
            sockets.is_whole(),
            format!(
                "sockets: {} of {} are there, {} offsets lost, {} doubled, {} out of order, {} not recovered, {} lost to all",
                sockets.ready,
                sockets.sockets,
                heard.lost,
                heard.duplicates,
                heard.out_of_order,
                heard.announced_gaps,
                sockets.ledger.lost_to_all
            ),
        );
        check(gets.answered > 0 && submits.accepted > 0 && heard.received > 0, "there was no load".to_owned());
        found
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let n = |count: u64| grouped(count as f64);
        let row = |name: &str, answered: u64, again: String, failed: u64, slowest_ms: f64| {
            vec![name.to_owned(), n(answered), again, n(failed), short_ms(slowest_ms)]
        };
        let mut cells = vec![["", "answered", "sent again", "failed", "slowest ms"].map(str::to_owned).to_vec()];
        cells.push(row("GET", self.gets.answered, "-".to_owned(), self.gets.failed, self.gets.slowest_ms));
        cells.push(row("POST with a key", self.submits.accepted, n(self.submits.retries), self.submits.given_up, self.submits.slowest_ms));
        cells.push(row("POST that waits", self.waits.answered, "-".to_owned(), self.waits.failed, self.waits.slowest_ms));
        let mut lines = vec![self.provenance.summary(), String::new()];
        lines.extend(aligned(&cells));
        lines.push(String::new());
        lines.push(format!("jobs: {}", self.ledger.shown()));
        let (sockets, heard) = (&self.sockets, &self.sockets.ledger.totals);
        lines.push(format!(
            "sockets: {} of {} there, {} reconnects, {} recoveries; {} publications, {} heard, {} of them recovered; {} lost, {} doubled, {} out of order",
            n(u64::from(sockets.ready)),
            n(u64::from(sockets.sockets)),
            n(sockets.reconnects),
            n(heard.recoveries),
            n(sockets.published),
            n(heard.received),
            n(heard.recovered),
            n(heard.lost),
            n(heard.duplicates),
            n(heard.out_of_order)
        ));
        for (cause, count) in &self.submits.causes {
            lines.push(format!("sent again after: {cause} ({count} times)"));
        }
        lines
    }
}
