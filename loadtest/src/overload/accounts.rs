//! What the platform is asked beside the load: a queue and tracks of our own before it, and afterwards whether all is there.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::args::OverloadArgs;
use super::report::Points;
use super::shedding::Shed;
use crate::client::{Request, parsed_id};
use crate::control::Control;
use crate::error::Error;
use crate::http::aim::echo_job;
use crate::ingest::Platform as Tracks;
use crate::jobs::{Ledger, Platform as Jobs, QueueState, Rest, in_queue};
use crate::provenance::run_name;
use crate::session::Need;

/// Jobs that are read.
const N_READ: u32 = 100;
/// How often it is looked whether they have ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest wait for them between two runs.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
/// How often a long queue is counted.
const COUNT_EVERY: Duration = Duration::from_millis(500);
/// A platform that runs no job within this has no worker.
const FIRST_WITHIN: Duration = Duration::from_secs(60);

/// The platform, and what of it is ours.
pub(super) struct Accounts {
    jobs: Jobs,
    points: Tracks,
    pub(super) metrics: Control,
    pub(super) queue: String,
    pub(super) tracks: Vec<String>,
    /// Jobs that have ended, for the load to read.
    pub(super) ended: Vec<u128>,
}

/// All that was accepted.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    pub(super) jobs: Vec<u128>,
    pub(super) points: u64,
    /// Requests of which nobody can tell whether the server acted on them.
    pub(super) in_doubt: u64,
}

impl Accounts {
    pub(super) fn open(args: &OverloadArgs, peer: SocketAddr) -> Result<Self, Error> {
        let control = || Control::new(peer, &args.url.authority());
        let identity = || args.account.identity(Need::Somebody);
        let (mut jobs, mut points) = (Jobs::new(control()?, identity()?), Tracks::new(control()?, identity()?));
        let queue = run_name("overload");
        jobs.make_queue(&queue, QueueState::Running)?;
        let tracks = points.make_tracks(args.batch, "overload")?;
        let mut ended = Vec::with_capacity(N_READ as usize);
        for number in 0..N_READ {
            let job = jobs.submit(&in_queue(echo_job(number), &queue), None)?;
            ended.push(job["id"].as_str().and_then(parsed_id).ok_or_else(|| Error::failed("the answer to a submit names no job"))?);
        }
        let deadline = Instant::now() + FIRST_WITHIN;
        for id in &ended {
            while !jobs.has_ended(*id)? {
                if Instant::now() > deadline {
                    return Err(Error::failed("the jobs to read have not ended within 60 s: is a worker running?"));
                }
                jobs.pause(LOOK_EVERY);
            }
        }
        Ok(Self { jobs, points, metrics: control()?, queue, tracks, ended })
    }

    /// A token that lasts for `needed_for`.
    pub(super) fn token(&mut self, needed_for: Duration) -> Result<String, Error> {
        self.jobs.token(needed_for)
    }

    /// What the server has shed so far.
    pub(super) fn shed(&mut self) -> Result<Shed, Error> {
        let token = self.token(FIRST_WITHIN)?;
        let (status, body) = self.metrics.fetch(&Request::get("/metrics").with_bearer(&token))?;
        match status {
            200 => Shed::read(&String::from_utf8_lossy(&body)),
            status => Err(Error::failed(format!("reading the server's metrics: it answered {status} (METRICS)"))),
        }
    }

    /// Waits until the accepted jobs have ended: what a run leaves behind would be done at the expense of the next.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + SETTLE_WITHIN;
        while self.jobs.live_jobs(&self.queue)? > 0 && Instant::now() < deadline {
            self.jobs.pause(COUNT_EVERY);
        }
        Ok(())
    }

    pub(super) fn pause(&self, pause: Duration) {
        self.jobs.pause(pause);
    }

    /// Waits until all that was accepted is done, looks it all up, and clears it away unless it is to be kept.
    pub(super) fn close(&mut self, args: &OverloadArgs, accepted: &Accepted) -> Result<(Ledger, Points), Error> {
        let deadline = Instant::now() + args.within;
        while self.jobs.live_jobs(&self.queue)? > 0 && Instant::now() < deadline {
            self.jobs.pause(COUNT_EVERY);
        }
        let all: Vec<u128> = self.ended.iter().chain(&accepted.jobs).copied().collect();
        let ledger = Ledger::draw_up(&mut self.jobs, &self.queue, &all, accepted.in_doubt)?;
        let stored = self.points.until_stored_of(&self.tracks, accepted.points, deadline)?;
        if !args.keep {
            self.jobs.clear(&self.queue)?;
            self.points.delete_tracks(&self.tracks)?;
        }
        let in_doubt = accepted.in_doubt * u64::from(args.batch);
        Ok((ledger, Points { accepted: accepted.points, stored, in_doubt }))
    }
}

pub(super) fn balance(ledger: &Ledger, points: Points) -> bool {
    ledger.balances(Rest::AllHaveEnded) && points.balance()
}
