//! The ledger: what the platform accepted against what it holds.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::platform::{JobsPage, Platform};
use crate::columns::grouped;
use crate::error::Error;

/// How the jobs of a run stand. It balances when every accepted job is there once, and nothing else is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Jobs that were answered 202.
    pub accepted: u64,
    pub succeeded: u64,
    pub dead: u64,
    pub cancelled: u64,
    pub expired: u64,
    /// Not ended yet: legal only where the queue is not drained.
    pub live: u64,
    /// Accepted and not there.
    pub missing: u64,
    /// There more than once, or accepted twice under one id.
    pub doubled: u64,
    /// There without having been accepted: legal for each request whose answer did not arrive.
    pub unacknowledged: u64,
    /// Jobs of requests that got no answer or 5xx.
    pub in_doubt: u64,
    /// Ended jobs that took more than one delivery, each with a reason in its attempts.
    pub run_again: u64,
}

/// Whether jobs may be left when the ledger is drawn up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    AllHaveEnded,
    SomeMayBeLive,
}

impl Ledger {
    /// Looks every job of the queue up.
    pub(crate) fn draw_up(platform: &mut Platform, queue: &str, accepted: &[u128], in_doubt: u64) -> Result<Self, Error> {
        let mut counts: HashMap<u128, u32> = HashMap::with_capacity(accepted.len());
        let mut ledger = Self { accepted: accepted.len() as u64, in_doubt, ..Self::default() };
        for id in accepted {
            ledger.doubled += u64::from(counts.insert(*id, 0).is_some());
        }
        let mut unacknowledged = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = platform.jobs_page(queue, cursor.as_deref())?;
            ledger.enter(&page, &mut counts, &mut unacknowledged);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        ledger.missing = counts.values().filter(|n_seen| **n_seen == 0).count() as u64;
        ledger.unacknowledged = unacknowledged.len() as u64;
        Ok(ledger)
    }

    fn enter(&mut self, page: &JobsPage, counts: &mut HashMap<u128, u32>, unacknowledged: &mut BTreeMap<u128, u32>) {
        for job in &page.items {
            let n_seen = match counts.get_mut(&job.id) {
                Some(n_seen) => n_seen,
                None => unacknowledged.entry(job.id).or_default(),
            };
            *n_seen += 1;
            self.doubled += u64::from(*n_seen > 1);
            let place = match job.state.as_str() {
                "succeeded" => &mut self.succeeded,
                "dead" => &mut self.dead,
                "cancelled" => &mut self.cancelled,
                "expired" => &mut self.expired,
                _ => {
                    self.live += 1;
                    continue;
                }
            };
            *place += 1;
            self.run_again += u64::from(job.attempt > 1);
        }
    }

    pub(crate) fn balances(&self, rest: Rest) -> bool {
        let live_is_legal = self.live == 0 || rest == Rest::SomeMayBeLive;
        live_is_legal && self.missing == 0 && self.doubled == 0 && self.unacknowledged <= self.in_doubt
    }

    /// One line for people.
    pub(crate) fn shown(&self) -> String {
        let n = |count: u64| grouped(count as f64);
        let mut line = format!(
            "{} accepted = {} succeeded + {} dead + {} cancelled + {} expired",
            n(self.accepted),
            n(self.succeeded),
            n(self.dead),
            n(self.cancelled),
            n(self.expired)
        );
        let more = [
            (self.missing, "MISSING"),
            (self.doubled, "DOUBLED"),
            (self.unacknowledged, "there without an answer"),
            (self.run_again, "run more than once"),
        ];
        if self.live > 0 {
            line.push_str(&format!(" + {} live", n(self.live)));
        }
        for (count, what) in more {
            line.push_str(&format!(" · {} {what}", n(count)));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(jobs: &[(u128, &str, u32)]) -> JobsPage {
        let item = |(id, state, attempt): &(u128, &str, u32)| super::super::platform::JobSeen {
            id: *id,
            state: (*state).to_owned(),
            attempt: *attempt,
        };
        JobsPage { items: jobs.iter().map(item).collect(), next_cursor: None }
    }

    fn ledger(accepted: &[u128], seen: &[(u128, &str, u32)], in_doubt: u64) -> Ledger {
        let mut counts = accepted.iter().map(|id| (*id, 0)).collect();
        let mut unacknowledged = BTreeMap::new();
        let mut ledger = Ledger { accepted: accepted.len() as u64, in_doubt, ..Ledger::default() };
        ledger.enter(&page(seen), &mut counts, &mut unacknowledged);
        ledger.missing = counts.values().filter(|n_seen| **n_seen == 0).count() as u64;
        ledger.unacknowledged = unacknowledged.len() as u64;
        ledger
    }

    #[test]
    fn a_ledger_balances_when_every_accepted_job_is_there_once() {
        let balanced = ledger(&[1, 2, 3], &[(3, "succeeded", 1), (2, "dead", 4), (1, "cancelled", 0)], 0);
        assert!(balanced.balances(Rest::AllHaveEnded));
        assert_eq!((balanced.succeeded, balanced.dead, balanced.cancelled, balanced.run_again), (1, 1, 1, 1));
    }

    #[test]
    fn what_is_missing_doubled_or_unheard_of_unbalances_it() {
        let cases = [
            (ledger(&[1, 2], &[(1, "succeeded", 1)], 0), "missing"),
            (ledger(&[1], &[(1, "succeeded", 1), (1, "succeeded", 1)], 0), "doubled"),
            (ledger(&[1], &[(1, "succeeded", 1), (7, "succeeded", 1)], 0), "unheard of"),
        ];
        for (unbalanced, case) in cases {
            assert!(!unbalanced.balances(Rest::SomeMayBeLive), "{case}");
        }
        assert!(ledger(&[1], &[(1, "succeeded", 1), (7, "succeeded", 1)], 1).balances(Rest::AllHaveEnded));
    }

    #[test]
    fn live_jobs_are_legal_only_where_nothing_drains() {
        let live = ledger(&[1], &[(1, "queued", 0)], 0);
        assert!(live.balances(Rest::SomeMayBeLive) && !live.balances(Rest::AllHaveEnded));
    }
}
