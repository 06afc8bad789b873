//! Submits under load: requests of one job or of many, on many connections, with the ids of what was accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::JobsArgs;
use super::threads;
use crate::address::HttpUrl;
use crate::client::{BodyRule, Request};
use crate::error::Error;
use crate::generator::{self, Budget, Harvest, Pace, Plan, Progress, SourceAddresses};
use crate::http::{Figures, Usages, aim::echo_job};
use crate::process::Watch;
use crate::process_tree::{TreeUsage, TreeWatch};

/// Longer than any budget takes.
const LONGEST: Duration = Duration::from_secs(600);
/// Warm-up of a run that has none: every run needs a moment to begin together.
const AT_ONCE: Duration = Duration::from_millis(1);

/// How long a submission goes on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    For { warmup: Duration, duration: Duration },
    Requests(u64),
}

/// What to submit, and how.
#[derive(Debug, Clone)]
pub(super) struct Submission<'a> {
    pub(super) args: &'a JobsArgs,
    pub(super) peer: SocketAddr,
    pub(super) token: String,
    pub(super) queue: String,
    /// Jobs per request.
    pub(super) bulk: u32,
    pub(super) connections: u32,
    pub(super) extent: Extent,
}

/// What came of a submission.
#[derive(Debug)]
pub(super) struct Submitted {
    /// Every job that was answered 202, the warm-up's included.
    pub(super) ids: Vec<u128>,
    /// Those of the measured time.
    pub(super) n_measured: u64,
    /// Jobs of which nobody knows.
    pub(super) in_doubt: u64,
    pub(super) begun: Instant,
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
    pub(super) figures: Figures,
    pub(super) processes: Vec<TreeUsage>,
}

impl Submission<'_> {
    pub(super) fn run(&self) -> Result<Submitted, Error> {
        let (warmup, duration, budget) = match self.extent {
            Extent::For { warmup, duration } => (warmup, duration, None),
            Extent::Requests(n_requests) => (AT_ONCE, LONGEST, Some(Budget::new(n_requests))),
        };
        let request = self.request().with_bearer(&self.token).to_bytes(&self.args.url.authority()).map_err(Error::usage)?;
        let plan = Arc::new(Plan {
            peer: self.peer,
            requests: vec![request],
            body_rule: BodyRule::Expected,
            connections: self.connections,
            threads: threads(self.args),
            pace: Pace::Closed,
            warmup,
            duration,
            timeout: self.args.timeout,
            sources: SourceAddresses::for_run(self.peer, self.connections, 0),
            budget,
            harvest: Harvest::JobIds,
        });
        run(&plan, self.bulk, &self.args.server_pid)
    }

    fn request(&self) -> Request {
        let job = |number| in_queue(echo_job(number), &self.queue);
        match self.bulk {
            1 => Request::post_json("/api/v1/jobs", &job(0)),
            n_jobs => Request::post_json("/api/v1/jobs/bulk", &json!({"jobs": (0..n_jobs).map(job).collect::<Vec<_>>()})),
        }
    }
}

/// `job` for a queue of its own.
pub(crate) fn in_queue(mut job: Value, queue: &str) -> Value {
    job["queue"] = queue.into();
    job
}

/// The same load on a server to compare with: requests per second.
pub(super) fn reference(
    args: &JobsArgs,
    url: &HttpUrl,
    peer: SocketAddr,
    connections: u32,
    extent: (Duration, Duration),
) -> Result<Figures, Error> {
    let request = Request::get(url.path()).to_bytes(&url.authority()).map_err(Error::usage)?;
    let plan = Arc::new(Plan {
        peer,
        requests: vec![request],
        body_rule: BodyRule::Expected,
        connections,
        threads: threads(args),
        pace: Pace::Closed,
        warmup: extent.0,
        duration: extent.1,
        timeout: args.timeout,
        sources: SourceAddresses::for_run(peer, connections, 0),
        budget: None,
        harvest: Harvest::Nothing,
    });
    Ok(run(&plan, 1, &[])?.figures)
}

fn run(plan: &Arc<Plan>, jobs_per_request: u32, pids: &[u32]) -> Result<Submitted, Error> {
    let begun = Instant::now();
    let (mut trees, mut own) = (None, Some(Watch::own()));
    let mut generator_usage = None;
    let mut observe = |seen: Progress| match seen {
        Progress::WarmingUp => {}
        Progress::Measuring { .. } => {
            trees = Some(TreeWatch::begin(pids));
            own.iter_mut().for_each(Watch::begin);
        }
        Progress::Running { .. } => trees.iter_mut().for_each(TreeWatch::sample),
        Progress::Ended => generator_usage = own.take().and_then(Watch::finish),
    };
    let mut load = generator::run(plan, &mut observe).map_err(Error::failed)?;
    let elapsed = load.recorder.last_ok_at.map_or_else(|| begun.elapsed(), |at| at.saturating_duration_since(begun));
    let n_measured = load.recorder.job_ids_in_window;
    Ok(Submitted {
        ids: std::mem::take(&mut load.recorder.job_ids),
        n_measured,
        in_doubt: load.recorder.in_doubt * u64::from(jobs_per_request),
        begun,
        elapsed,
        figures: Figures::of(plan, load, Usages { server: None, generator: generator_usage }),
        processes: trees.map_or_else(Vec::new, |trees| trees.finish(n_measured)),
    })
}
