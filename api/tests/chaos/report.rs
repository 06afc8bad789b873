//! What a run came to: figures for the reader, and findings, of which there must be none.

use crate::{client::Client, faults::Fault, ledger::Ledger, mixture::Class, submitter::Accepted};
use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

/// One stage of a run.
#[derive(Debug)]
pub(crate) struct Struck {
    pub(crate) fault: Fault,
    /// Jobs that were due and not over when it struck.
    pub(crate) n_pending: i64,
    /// From the first submit of the stage until all of them are accepted.
    pub(crate) took: Duration,
}

#[derive(Debug)]
pub(crate) struct Report {
    struck: Vec<Struck>,
    ledger: Ledger,
    n_doubled: usize,
    n_refused: usize,
    n_unanswered: usize,
    n_sent_again: usize,
    n_replayed: usize,
}

impl Report {
    pub(crate) fn new(struck: Vec<Struck>, accepted: &Accepted, ledger: Ledger, client: &Client) -> Self {
        let (n_sent_again, n_replayed) = client.counts();
        let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Relaxed);
        Self {
            struck,
            ledger,
            n_doubled: count(&accepted.n_doubled),
            n_refused: count(&accepted.n_refused),
            n_unanswered: count(&accepted.n_unanswered),
            n_sent_again,
            n_replayed,
        }
    }

    /// Everything that breaks the promise, in words.
    pub(crate) fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let mut expect = |is_so: bool, what: String| {
            if !is_so {
                findings.push(what);
            }
        };
        let rows = &self.ledger.rows;
        expect(rows.live == 0, format!("{} rows are not over", rows.live));
        expect(rows.ended == rows.distinct_ids, format!("{} ended rows for {} ids", rows.ended, rows.distinct_ids));
        expect(rows.wrong_results == 0, format!("{} results are not what was sent", rows.wrong_results));
        expect(rows.stray_results == 0, format!("{} results of jobs that did not succeed", rows.stray_results));
        expect(self.ledger.n_listed_twice == 0, format!("{} jobs are listed twice", self.ledger.n_listed_twice));
        expect(self.n_doubled == 0, format!("{} ids were given twice", self.n_doubled));
        let (n_listed, n_accepted) = (self.ledger.jobs.len(), self.ledger.accepted.len());
        expect(n_listed == usize::try_from(rows.ended).unwrap(), format!("the API lists {n_listed} jobs, PostgreSQL has {}", rows.ended));
        // Without a key nobody can tell whether an unanswered submit was written; with one, none is there twice.
        let most = n_accepted + self.n_unanswered;
        expect((n_accepted..=most).contains(&n_listed), format!("{n_listed} jobs are there, {n_accepted} to {most} were accepted"));
        findings.extend(self.ledger.accepted.iter().filter_map(|(id, n)| self.finding_of(id, *n)));
        findings.truncate(20);
        findings
    }

    fn finding_of(&self, id: &str, n: usize) -> Option<String> {
        let Some(job) = self.ledger.jobs.get(id) else { return Some(format!("job {n} ({id}) was accepted and is not there")) };
        let (class, state) = (Class::of(n), job["state"].as_str().unwrap());
        if !class.ends().contains(&state) {
            return Some(format!("job {n} of class {class:?} ended {state}, attempts {:?}: {job}", self.ledger.attempts.get(id)));
        }
        let is_own = match class {
            Class::Sleep | Class::Fail => true,
            Class::Echo | Class::LargeEcho | Class::Delayed | Class::Expires | Class::Cancel | Class::CancelDelayed => {
                job["payload"]["n"] == n
            }
        };
        if !is_own || (job["kind"] == "debug.echo" && state == "succeeded" && job["result"] != job["payload"]) {
            return Some(format!("job {n} ({id}) is not what was submitted: {job}"));
        }
        if state == "succeeded" && !self.ledger.runs.contains_key(id) {
            return Some(format!("job {n} ({id}) succeeded without a run"));
        }
        let most: usize = self.struck.iter().map(|struck| struck.fault.unrecorded_max()).sum();
        let unrecorded = self.ledger.unrecorded(id);
        (unrecorded.len() > most)
            .then(|| format!("job {n} ({id}) ran {} times without a record, attempts {unrecorded:?}", unrecorded.len()))
    }

    #[expect(clippy::print_stdout, reason = "the figures are what a run is for")]
    pub(crate) fn print(&self, took: Duration) {
        let mut by_state: BTreeMap<&str, usize> = BTreeMap::new();
        for job in self.ledger.jobs.values() {
            *by_state.entry(job["state"].as_str().unwrap()).or_default() += 1;
        }
        let n_accepted = self.ledger.accepted.len();
        println!(
            "{n_accepted} accepted, {} refused as too late, {} unanswered, in {:.1} s",
            self.n_refused,
            self.n_unanswered,
            took.as_secs_f64()
        );
        println!("  ended: {by_state:?}");
        println!("  requests sent again: {}, answered from their key: {}", self.n_sent_again, self.n_replayed);
        self.print_runs();
        let told = |struck: &Struck| format!("{:?} ({}, {:.1})", struck.fault, struck.n_pending, struck.took.as_secs_f64());
        let struck: Vec<String> = self.struck.iter().map(told).collect();
        println!("  faults (jobs pending then, seconds to bring back and submit): {}", struck.join(", "));
    }

    /// Each run that was one too many, by what explains it.
    #[expect(clippy::print_stdout, reason = "as above")]
    fn print_runs(&self) {
        let (mut n_runs, mut n_jobs, mut n_returned, mut n_forgotten, mut n_jobs_again) = (0, 0, 0, 0, 0);
        for (id, runs) in self.ledger.runs.iter().filter(|(id, _)| self.ledger.jobs.contains_key(*id)) {
            let unrecorded = self.ledger.unrecorded(id);
            // The same ordinal twice: Redis had forgotten the first. Otherwise the start was never told, and came back unspent.
            let n_reused = unrecorded.iter().filter(|attempt| runs.iter().filter(|run| run == attempt).count() > 1).count();
            n_runs += runs.len();
            n_jobs += 1;
            n_forgotten += n_reused;
            n_returned += unrecorded.len() - n_reused;
            n_jobs_again += usize::from(!unrecorded.is_empty());
        }
        let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, outcome) in self.ledger.attempts.values().flatten() {
            *outcomes.entry(outcome).or_default() += 1;
        }
        println!("  runs: {n_runs} of {n_jobs} jobs; attempts recorded as not successful: {outcomes:?}");
        println!(
            "  runs without a record: {} ({n_returned} untold starts, {n_forgotten} forgotten by Redis) of {n_jobs_again} jobs",
            n_returned + n_forgotten
        );
    }
}
