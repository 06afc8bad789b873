//! Measures row after row: sets up both aims, then runs them in turns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::aim::Aim;
use super::args::HttpArgs;
use super::crew::{self, Crew, Seen};
use super::figures::{Figures, Usages};
use super::observed::observed;
use super::report::{Mode, Reference, Row};
use super::share::Share;
use super::steps::{self, Step};
use super::threads;
use crate::address::{HttpUrl, Ownership};
use crate::error::Error;
use crate::generator::{Harvest, Pace, Plan, SourceAddresses};
use crate::output::Output;
use crate::process::Watch;
use crate::progress::{ProgressDisplay, Visibility};

/// Time that the token for setting up must last.
const SET_UP_WITHIN: Duration = Duration::from_secs(60);

/// Both aims, ready to be measured.
pub(super) struct Bench<'a> {
    args: &'a HttpArgs,
    target: Aim,
    /// All processes of the target.
    peers: Vec<SocketAddr>,
    reference: Option<Aim>,
    progress: ProgressDisplay,
    n_runs_done: u32,
}

impl<'a> Bench<'a> {
    pub(super) fn set_up(args: &'a HttpArgs, steps: &[Step], output: &mut Output<'_>) -> Result<Self, Error> {
        check_pids(args)?;
        if !args.url.iter().all(HttpUrl::is_root) {
            return Err(Error::usage("--url names the server alone: give the rest as --path"));
        }
        let n_runs = steps::runs_per_step(args) * u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let planned = steps::run_time(args) * n_runs;
        let peers = args.url.iter().map(|url| resolve(url, args)).collect::<Result<Vec<_>, _>>()?;
        let peer = *peers.first().ok_or_else(|| Error::usage("--url names no server"))?;
        let reference = match &args.reference_url {
            Some(url) => Some(Aim::at_reference(url, resolve(url, args)?)?),
            None => None,
        };
        let target = Aim::at_target(args, peer, SET_UP_WITHIN)?;
        let planned_s = planned.as_secs_f64();
        output.note(&format!("{n_runs} runs, about {planned_s:.0} s"))?;
        let visibility = match output.is_quiet() {
            true => Visibility::Hidden,
            false => Visibility::Terminal,
        };
        Ok(Self {
            args,
            target,
            peers,
            reference,
            progress: ProgressDisplay::new(n_runs, steps::run_time(args), visibility),
            n_runs_done: 0,
        })
    }

    /// The rows in order, up to the first that fails.
    pub(super) fn measure_all(&mut self, steps: &[Step]) -> (Vec<Row>, Option<Error>) {
        let mut rows: Vec<Row> = Vec::with_capacity(steps.len());
        let mut failure = None;
        for step in steps {
            let peak = rows.iter().rev().find(|row| row.mode == Mode::Closed);
            let rate = steps::rate_per_s(*step, peak.map(|row| row.median.per_second));
            match rate.and_then(|rate_per_s| self.measure_row(step.connections, rate_per_s)) {
                Ok(row) => rows.push(row),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.progress.finish();
        (rows, failure)
    }

    /// Target and reference in turns, so that a change of the machine's mood meets both.
    fn measure_row(&mut self, connections: u32, rate_per_s: Option<f64>) -> Result<Row, Error> {
        let mut runs = Vec::new();
        let mut reference_runs = Vec::new();
        for _ in 0..self.args.repeat {
            runs.push(self.measure(Side::Target, connections, rate_per_s)?);
            if self.reference.is_some() {
                reference_runs.push(self.measure(Side::Reference, connections, rate_per_s)?);
            }
        }
        let median = Figures::median(&runs);
        let reference = (!reference_runs.is_empty()).then(|| {
            let of_reference = Figures::median(&reference_runs);
            let ratio = median.per_second / of_reference.per_second;
            Reference { ratio: ratio.is_finite().then_some(ratio), median: of_reference, runs: reference_runs }
        });
        Ok(Row {
            target: self.target.label.clone(),
            connections,
            mode: rate_per_s.map_or(Mode::Closed, |_| Mode::Open),
            rate_per_s,
            median,
            runs,
            reference,
        })
    }

    fn measure(&mut self, side: Side, connections: u32, rate_per_s: Option<f64>) -> Result<Figures, Error> {
        let run_time = steps::run_time(self.args) + self.args.timeout;
        let (aim, pids, peers) = match (side, &mut self.reference) {
            (Side::Reference, Some(reference)) => {
                let peers = vec![reference.peer];
                (reference, &self.args.reference_pid, peers)
            }
            (Side::Target, _) | (Side::Reference, None) => (&mut self.target, &self.args.server_pid, self.peers.clone()),
        };
        let plan = Plan {
            peer: aim.peer,
            requests: aim.request_bytes(run_time)?,
            body_rule: aim.body_rule,
            connections,
            threads: threads(self.args),
            pace: rate_per_s.map_or(Pace::Closed, |rate_per_s| Pace::Open { rate_per_s, max_waiting: self.args.max_waiting }),
            warmup: self.args.warmup,
            duration: self.args.duration,
            timeout: self.args.timeout,
            sources: SourceAddresses::for_run(aim.peer, connections, self.n_runs_done),
            budget: None,
            harvest: Harvest::Nothing,
        };
        let run_idx = self.n_runs_done;
        self.n_runs_done += 1;
        let label = format!("{} over {connections} connections", aim.label);
        self.progress.begin_run(&label);
        let figures = match crew::n_shares(connections, peers.len()) {
            1 => run_once(&Arc::new(plan), &label, pids, &self.progress)?,
            _ => run_shared(&plan, &peers, run_idx, &label, pids, &self.progress)?,
        };
        self.progress.end_run();
        Ok(figures)
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Target,
    Reference,
}

fn run_once(plan: &Arc<Plan>, label: &str, pids: &[u32], progress: &ProgressDisplay) -> Result<Figures, Error> {
    let (load, usages) = observed(plan, label, pids, progress)?;
    Ok(Figures::of(plan, load, usages))
}

/// The same, by a process for each share of the connections.
fn run_shared(
    plan: &Plan,
    peers: &[SocketAddr],
    run_idx: u32,
    label: &str,
    pids: &[u32],
    progress: &ProgressDisplay,
) -> Result<Figures, Error> {
    let shares = crew::deal(&Share::of(plan, run_idx), peers);
    let crew = Crew::start(shares.len())?;
    let (mut server, mut generator) = (Watch::new(pids), Watch::new(&crew.pids()));
    let mut usages = Usages { server: None, generator: None };
    let mut observe = |seen: Seen| match seen {
        Seen::Measuring => {
            server.begin();
            generator.begin();
        }
        Seen::Running { elapsed } => {
            server.sample();
            progress.advance(label, plan.warmup + elapsed);
        }
        Seen::Ended => {
            let taken = |watch: &mut Watch| std::mem::replace(watch, Watch::new(&[])).finish();
            (usages.server, usages.generator) = (taken(&mut server), taken(&mut generator));
        }
    };
    let load = crew.run(shares, &mut observe)?;
    Ok(Figures::of(plan, load, usages))
}

fn resolve(url: &HttpUrl, args: &HttpArgs) -> Result<SocketAddr, Error> {
    url.resolve(match args.i_own_this_host {
        true => Ownership::Claimed,
        false => Ownership::Unclaimed,
    })
}

fn check_pids(args: &HttpArgs) -> Result<(), Error> {
    let pids = [args.server_pid.as_slice(), args.reference_pid.as_slice()].concat();
    match Watch::new(&pids).missing_pid() {
        Some(pid) => Err(Error::usage(format!("there is no process {pid}"))),
        None => Ok(()),
    }
}
