//! One run of each measure: what it does, from making its queue to clearing up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::args::{DrainArgs, EnqueueArgs, JobsArgs, PickupArgs, connections};
use super::ledger::{Ledger, Rest};
use super::load::{Extent, Submission, Submitted, in_queue, reference};
use super::platform::{Platform, QueueState};
use super::report::{Pickup, Run};
use crate::client::{parsed_id, shown_id};
use crate::error::Error;
use crate::generator::new_histogram;
use crate::http::{Percentiles, aim::echo_job};
use crate::process_tree::TreeWatch;
use crate::ws::{Watched, Watchers};

/// How often the last job is looked at while a queue drains: one cheap read each.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the queue is counted once that job has ended: few are left to count.
const COUNT_EVERY: Duration = Duration::from_millis(5);
/// Time between two looks at a job that is about to start.
const PICKUP_POLL: Duration = Duration::from_millis(1);
/// A single job on an idle worker that takes longer says that there is none.
const PICKUP_WITHIN: Duration = Duration::from_secs(30);
/// Longest that a submission of unknown length may take.
const SUBMIT_WITHIN: Duration = Duration::from_secs(600);

/// What a run needs of its command.
pub(super) struct Site<'a> {
    pub(super) args: &'a JobsArgs,
    pub(super) peer: SocketAddr,
    pub(super) platform: Platform,
}

impl<'a> Site<'a> {
    /// Submits for a while; the ledger then finds every job, ended or not.
    pub(super) fn enqueue(&mut self, args: &EnqueueArgs, queue: &str, reference_peer: Option<SocketAddr>) -> Result<Run, Error> {
        let rest = Rest::SomeMayBeLive;
        let first = match args.draining {
            true => Some(self.open_queue(queue)?),
            false => {
                self.platform.make_queue(queue, QueueState::Paused)?;
                None
            }
        };
        let extent = Extent::For { warmup: args.warmup, duration: args.duration };
        let connections = connections(args.connections, args.bulk);
        let submitted = self.submission(queue, args.bulk, connections, extent)?.run()?;
        let reference_per_s = match (&args.reference_url, reference_peer) {
            (Some(url), Some(peer)) => Some(reference(self.args, url, peer, connections, (args.warmup, args.duration))?.per_second),
            (None, _) | (_, None) => None,
        };
        let ids: Vec<u128> = submitted.ids.iter().copied().chain(first).collect();
        let ledger = self.close(queue, &ids, submitted.in_doubt)?;
        let elapsed_s = args.duration.as_secs_f64();
        Ok(Run {
            queue: queue.to_owned(),
            jobs: submitted.n_measured,
            elapsed_s,
            jobs_per_s: submitted.n_measured as f64 / elapsed_s,
            submit_jobs_per_s: None,
            is_balanced: ledger.balances(rest),
            ledger,
            requests: Some(submitted.figures),
            pickup: None,
            n_watching: None,
            processes: submitted.processes,
            reference_per_s,
        })
    }

    /// Fills and drains, one after the other or at once.
    pub(super) fn drain(&mut self, args: &DrainArgs, queue: &str) -> Result<Run, Error> {
        let first = self.open_queue(queue)?;
        if !args.while_submitting {
            self.platform.set_state(queue, QueueState::Paused)?;
        }
        let extent = Extent::Requests(u64::from(args.jobs.div_ceil(args.bulk)));
        let submission = self.submission(queue, args.bulk, connections(args.connections, args.bulk), extent)?;
        let mut trees = TreeWatch::begin(&self.args.server_pid);
        let submitted = submission.run()?;
        let mut watchers = match args.watchers {
            0 => None,
            n_sockets => Some(Watchers::open(n_sockets, self.watched(queue, &submitted, args.within)?)?),
        };
        let mut begun = submitted.begun;
        if !args.while_submitting {
            trees = TreeWatch::begin(&self.args.server_pid);
            begun = Instant::now();
            self.platform.set_state(queue, QueueState::Running)?;
        }
        self.wait_for_end(queue, &submitted, Instant::now() + args.within, &mut trees)?;
        let elapsed_s = begun.elapsed().as_secs_f64();
        let n_jobs = submitted.ids.len() as u64;
        let processes = trees.finish(n_jobs);
        let n_watching = watchers.as_mut().map(Watchers::watching).transpose()?;
        let ids: Vec<u128> = submitted.ids.iter().copied().chain([first]).collect();
        let ledger = self.close(queue, &ids, submitted.in_doubt)?;
        Ok(Run {
            queue: queue.to_owned(),
            jobs: n_jobs,
            elapsed_s,
            jobs_per_s: n_jobs as f64 / elapsed_s,
            submit_jobs_per_s: Some(n_jobs as f64 / submitted.elapsed.as_secs_f64()),
            is_balanced: ledger.balances(Rest::AllHaveEnded),
            ledger,
            requests: None,
            pickup: None,
            n_watching,
            processes,
            reference_per_s: None,
        })
    }

    fn watched<'q>(&mut self, queue: &'q str, submitted: &Submitted, within: Duration) -> Result<Watched<'q>, Error> {
        Ok(Watched {
            peer: self.peer,
            authority: self.args.url.authority(),
            token: self.platform.token(within)?,
            queue,
            jobs: submitted.ids.iter().map(|id| shown_id(*id)).collect(),
            timeout: self.args.timeout,
        })
    }

    /// One job at a time.
    pub(super) fn pickup(&mut self, args: &PickupArgs, queue: &str) -> Result<Run, Error> {
        self.platform.make_queue(queue, QueueState::Running)?;
        let trees = TreeWatch::begin(&self.args.server_pid);
        let (mut pickups, mut ends, mut answers) = (new_histogram(), new_histogram(), new_histogram());
        let begun = Instant::now();
        let mut ids = Vec::with_capacity(args.jobs as usize);
        for number in 0..args.jobs {
            let job = self.pickup_one(in_queue(echo_job(number), queue), args.wait, &mut answers)?;
            ids.extend(job["id"].as_str().and_then(parsed_id));
            record(&mut pickups, &job, "started_at");
            record(&mut ends, &job, "finished_at");
        }
        let elapsed_s = begun.elapsed().as_secs_f64();
        let n_jobs = ids.len() as u64;
        let processes = trees.finish(n_jobs);
        let ledger = self.close(queue, &ids, 0)?;
        let of = |histogram: &Histogram<u64>| Percentiles::of(histogram).ok_or_else(|| Error::failed("no job was picked up"));
        Ok(Run {
            queue: queue.to_owned(),
            jobs: n_jobs,
            elapsed_s,
            jobs_per_s: n_jobs as f64 / elapsed_s,
            submit_jobs_per_s: None,
            is_balanced: ledger.balances(Rest::AllHaveEnded),
            ledger,
            requests: None,
            pickup: Some(Pickup { started_ms: of(&pickups)?, ended_ms: of(&ends)?, answered_ms: of(&answers)? }),
            n_watching: None,
            processes,
            reference_per_s: None,
        })
    }

    /// Makes the queue and runs one job through it. While a new queue is made known to Redis, its jobs are looked up in
    /// PostgreSQL once more before they run: that is not what a run of a queue in use should measure.
    fn open_queue(&mut self, queue: &str) -> Result<u128, Error> {
        self.platform.make_queue(queue, QueueState::Running)?;
        let job = self.pickup_one(in_queue(echo_job(0), queue), false, &mut new_histogram())?;
        job["id"].as_str().and_then(parsed_id).ok_or_else(|| Error::failed("a job has no id"))
    }

    /// Submits a job and gives it back ended.
    fn pickup_one(&mut self, job: Value, wait: bool, answers: &mut Histogram<u64>) -> Result<Value, Error> {
        let sent = Instant::now();
        let mut job = self.platform.submit(&job, wait.then_some("wait=10"))?;
        answers.saturating_record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let id = job["id"].as_str().and_then(parsed_id).ok_or_else(|| Error::failed("the answer to a submit names no job"))?;
        while job["finished_at"].is_null() {
            if sent.elapsed() > PICKUP_WITHIN {
                return Err(Error::failed("a job has not ended within 30 s: is a worker running?"));
            }
            self.platform.pause(PICKUP_POLL);
            job = self.platform.job(id)?;
        }
        Ok(job)
    }

    fn submission(&mut self, queue: &str, bulk: u32, connections: u32, extent: Extent) -> Result<Submission<'a>, Error> {
        let needed_for = match extent {
            Extent::For { warmup, duration } => warmup + duration + self.args.timeout,
            Extent::Requests(_) => SUBMIT_WITHIN,
        };
        let token = self.platform.token(needed_for)?;
        Ok(Submission { args: self.args, peer: self.peer, token, queue: queue.to_owned(), bulk, connections, extent })
    }

    /// Waits until every job has ended. Jobs are taken in order, so the newest is looked at until it has ended; only then is
    /// the queue counted, because counting a deep queue would disturb what is measured.
    fn wait_for_end(&mut self, queue: &str, submitted: &Submitted, deadline: Instant, trees: &mut TreeWatch) -> Result<(), Error> {
        let newest = submitted.ids.iter().max().copied().ok_or_else(|| Error::failed("no job was accepted"))?;
        let mut is_newest_over = false;
        loop {
            trees.sample();
            is_newest_over = is_newest_over || self.platform.has_ended(newest)?;
            if is_newest_over && self.platform.live_jobs(queue)? == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let n_left = self.platform.live_jobs(queue)?;
                return Err(Error::failed(format!("{n_left} jobs of {queue} have not ended in time: is a worker running? (--within)")));
            }
            self.platform.pause(if is_newest_over { COUNT_EVERY } else { LOOK_EVERY });
        }
    }

    /// Draws up the ledger, then clears the queue away unless it is to be kept.
    fn close(&mut self, queue: &str, accepted: &[u128], in_doubt: u64) -> Result<Ledger, Error> {
        let ledger = Ledger::draw_up(&mut self.platform, queue, accepted, in_doubt)?;
        if !self.args.keep {
            self.platform.clear(queue)?;
        }
        Ok(ledger)
    }
}

/// Records the time from a job's creation to `until`, both as the platform's clocks had them.
fn record(histogram: &mut Histogram<u64>, job: &Value, until: &str) {
    let at = |name: &str| OffsetDateTime::parse(job[name].as_str()?, &Rfc3339).ok();
    if let (Some(created_at), Some(until)) = (at("created_at"), at(until)) {
        histogram.saturating_record(u64::try_from((until - created_at).whole_nanoseconds()).unwrap_or(0));
    }
}
