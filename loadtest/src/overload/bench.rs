//! Runs the closed loops that find the peak, and the loads above and below it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use time::OffsetDateTime;

use super::accounts::{Accepted, Accounts};
use super::args::OverloadArgs;
use super::mix::{self, Subjects};
use super::report::{Load, Peak, PeakRun, Probed};
use super::watching::{Met, Watchers};
use crate::client::{BodyRule, Request, shown_id};
use crate::error::Error;
use crate::generator::{self, Harvest, Numbering, Pace, Plan, SourceAddresses};
use crate::http::{Figures, Percentiles, Usages, observed};
use crate::output::Output;
use crate::progress::{ProgressDisplay, Visibility};

/// Rounds of the mix that are made beforehand, so that reads are of all the jobs.
const ROUNDS: usize = 10;
/// Requests that may wait for a connection, as time at the load's rate; more are given up.
const WAITING: Duration = Duration::from_millis(100);
/// As at peace: reads in a row, each at most this many times as slow as below the peak, or as the floor.
const CALM_READS: u32 = 10;
const CALM_TIMES: f64 = 2.0;
const CALM_FLOOR_MS: f64 = 20.0;
/// How long it is waited for that.
const RECOVERY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Between the end of what a run left behind and the next.
const REST: Duration = Duration::from_secs(1);

pub(super) struct Bench<'a> {
    args: &'a OverloadArgs,
    peer: SocketAddr,
    accounts: &'a mut Accounts,
    requests: Vec<Request>,
    harvest: Harvest,
    watchers: Watchers,
    progress: ProgressDisplay,
    accepted: Accepted,
    n_runs: u32,
    /// p99 of a run below the peak, in milliseconds, once there is one.
    calm_ms: Option<f64>,
}

/// What a run came to.
struct Ran {
    goodput_per_s: f64,
    n_shed: u64,
    figures: Figures,
}

impl<'a> Bench<'a> {
    pub(super) fn set_up(
        args: &'a OverloadArgs,
        peer: SocketAddr,
        accounts: &'a mut Accounts,
        output: &mut Output<'_>,
    ) -> Result<Self, Error> {
        // Makes the keys of this command differ from those of others.
        let nonce = u128::from(std::process::id()) << 96 | OffsetDateTime::now_utc().unix_timestamp_nanos().unsigned_abs();
        let subjects = Subjects { jobs: &accounts.ended, queue: &accounts.queue, tracks: &accounts.tracks, nonce };
        let requests = mix::requests(args.mix, ROUNDS, &subjects)?;
        let read = Request::get(format!("/api/v1/jobs/{}", shown_id(accounts.ended[0])));
        let n_runs = u32::try_from(args.peak_connections.len() + 1 + args.loads.len()).unwrap_or(u32::MAX);
        let peak_time = (args.warmup + args.peak_duration) * u32::try_from(args.peak_connections.len() + 1).unwrap_or(1);
        let load_time = (args.warmup + args.duration) * u32::try_from(args.loads.len()).unwrap_or(1);
        output
            .note(&format!("{n_runs} runs, about {:.0} s, and the time for accepted jobs to end", (peak_time + load_time).as_secs_f64()))?;
        let visibility = if output.is_quiet() { Visibility::Hidden } else { Visibility::Terminal };
        let token = accounts.token((peak_time + load_time) * 2 + RECOVERY_WITHIN)?;
        let watchers = Watchers::start(peer, &args.url.authority(), &read.with_bearer(&token))?;
        let mut bench = Self {
            args,
            peer,
            accounts,
            requests,
            harvest: Harvest::Nothing,
            watchers,
            progress: ProgressDisplay::new(n_runs, args.warmup + args.duration, visibility),
            accepted: Accepted::default(),
            n_runs: 0,
            calm_ms: None,
        };
        let bytes = bench.request_bytes()?;
        bench.harvest = Harvest::Accepted(Arc::new(Numbering::of(&bytes)));
        Ok(bench)
    }

    /// The best of the closed loops.
    pub(super) fn peak(&mut self, output: &mut Output<'_>) -> Result<Peak, Error> {
        let mut runs = Vec::with_capacity(self.args.peak_connections.len());
        for connections in &self.args.peak_connections {
            self.accounts.settle()?;
            let ran = self.run(*connections, Pace::Closed, self.args.peak_duration, "looking for the peak")?;
            output.note(&format!("{connections} connections: {:.0}/s", ran.goodput_per_s))?;
            runs.push(PeakRun { connections: *connections, goodput_per_s: ran.goodput_per_s, figures: ran.figures });
        }
        let best = runs.iter().max_by(|a, b| a.goodput_per_s.total_cmp(&b.goodput_per_s));
        let best =
            best.filter(|run| run.goodput_per_s > 0.0).ok_or_else(|| Error::failed("nothing was answered well: there is no peak"))?;
        let rss_peak_bytes = runs.iter().filter_map(|run| run.figures.server).map(|usage| usage.rss_peak_bytes).max();
        Ok(Peak { connections: best.connections, per_second: best.goodput_per_s, rss_peak_bytes, runs: runs.clone(), afterwards: None })
    }

    /// The peak once more, as it was found: tables and logs have grown under the loads, and machines have neighbours.
    pub(super) fn peak_again(&mut self, peak: &mut Peak, output: &mut Output<'_>) -> Result<(), Error> {
        self.accounts.settle()?;
        let ran = self.run(peak.connections, Pace::Closed, self.args.peak_duration, "the peak again")?;
        output.note(&format!("{} connections: {:.0}/s, after the loads", peak.connections, ran.goodput_per_s))?;
        peak.afterwards = Some(PeakRun { connections: peak.connections, goodput_per_s: ran.goodput_per_s, figures: ran.figures });
        Ok(())
    }

    pub(super) fn load(&mut self, times_peak: f64, peak: &Peak, output: &mut Output<'_>) -> Result<Load, Error> {
        self.accounts.settle()?;
        self.accounts.pause(REST);
        let rate_per_s = times_peak * peak.per_second;
        let max_waiting = (rate_per_s * WAITING.as_secs_f64()).ceil() as u64;
        let shed_before = self.accounts.shed()?;
        drop(self.watchers.probes());
        let ran = self.run(
            self.args.connections,
            Pace::Open { rate_per_s, max_waiting },
            self.args.duration,
            &format!("{times_peak}x the peak"),
        )?;
        let (health, readiness) = self.watchers.probes();
        if times_peak < 1.0 {
            self.calm_ms = ran.figures.service_time_ms.map(|took| took.p99);
        }
        let recovered_after_s = self.recovery();
        let shed_decided_p99_ms = self.accounts.shed()?.p99_ms_since(&shed_before);
        output.note(&format!("{times_peak}x the peak: {:.0}/s", ran.goodput_per_s))?;
        Ok(Load {
            times_peak,
            rate_per_s,
            goodput_per_s: ran.goodput_per_s,
            goodput_share: ran.goodput_per_s / peak.per_second,
            shed_per_s: ran.n_shed as f64 / self.args.duration.as_secs_f64(),
            shed_decided_p99_ms,
            health: probed(&health),
            readiness: probed(&readiness),
            recovered_after_s,
            figures: ran.figures,
        })
    }

    /// Ends the watching, and gives back what was accepted.
    pub(super) fn finish(self) -> Accepted {
        self.progress.finish();
        self.watchers.finish();
        self.accepted
    }

    /// Seconds until reads are as they were; None if they do not become so in time.
    fn recovery(&self) -> Option<f64> {
        let ended = Instant::now();
        let calm_ms = self.calm_ms.map_or(CALM_FLOOR_MS, |ms| (CALM_TIMES * ms).max(CALM_FLOOR_MS));
        let (mut n_calm, mut seen, mut since) = (0, ended, ended);
        while ended.elapsed() < RECOVERY_WITHIN {
            self.accounts.pause(LOOK_EVERY);
            let Some(reading) = self.watchers.reading().filter(|reading| reading.answered > seen) else { continue };
            seen = reading.answered;
            if !reading.is_ok || reading.took.as_secs_f64() * 1e3 > calm_ms {
                (n_calm, since) = (0, seen);
                continue;
            }
            n_calm += 1;
            if n_calm == CALM_READS {
                return Some(since.saturating_duration_since(ended).as_secs_f64());
            }
        }
        None
    }

    fn request_bytes(&mut self) -> Result<Vec<Box<[u8]>>, Error> {
        let token = self.accounts.token(self.args.warmup + self.args.duration + self.args.timeout)?;
        let authority = self.args.url.authority();
        self.requests.iter().map(|request| request.clone().with_bearer(&token).to_bytes(&authority).map_err(Error::usage)).collect()
    }

    fn run(&mut self, connections: u32, pace: Pace, duration: Duration, label: &str) -> Result<Ran, Error> {
        let requests = self.request_bytes()?;
        let plan = Arc::new(Plan {
            peer: self.peer,
            harvest: self.harvest.clone(),
            requests,
            body_rule: BodyRule::Expected,
            connections,
            threads: self.args.threads,
            pace,
            warmup: self.args.warmup,
            duration,
            timeout: self.args.timeout,
            sources: SourceAddresses::for_run(self.peer, connections, self.n_runs),
            budget: None,
        });
        self.n_runs += 1;
        self.progress.begin_run(label);
        let (load, usages) = observed(&plan, label, &self.args.server_pid, &self.progress)?;
        self.progress.end_run();
        Ok(self.keep(&plan, load, usages))
    }

    /// Takes what was accepted out of a run for the ledger.
    fn keep(&mut self, plan: &Plan, mut load: generator::Load, usages: Usages) -> Ran {
        let recorder = &mut load.recorder;
        self.accepted.jobs.append(&mut recorder.job_ids);
        self.accepted.points += recorder.points;
        // Shed requests were not acted on, and their number would hide anything else.
        let n_shed = recorder.statuses.get(&503).copied().unwrap_or(0);
        self.accepted.in_doubt += recorder.in_doubt.saturating_sub(n_shed);
        let took = match plan.pace {
            Pace::Closed => &recorder.latency,
            Pace::Open { .. } => &recorder.service_time,
        };
        let useful = useful_share(took, self.args.deadline);
        let goodput_per_s = useful * recorder.ok_in_window as f64 / plan.duration.as_secs_f64();
        Ran { goodput_per_s, n_shed, figures: Figures::of(plan, load, usages) }
    }
}

/// Share of the answers that came within the deadline.
fn useful_share(took: &Histogram<u64>, deadline: Duration) -> f64 {
    let deadline_ns = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
    let n_useful = took.count_between(0, deadline_ns) as f64;
    if took.is_empty() { 0.0 } else { n_useful / took.len() as f64 }
}

fn probed(met: &Met) -> Probed {
    Probed { probes: met.took.len(), failed: met.n_failed, latency_ms: Percentiles::of(&met.took) }
}
