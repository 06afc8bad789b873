//! `millrace-loadtest saturation`: connections and pools are used up, given back, and timed until all is as before.
//!
//! `args` is the command line · `holding` opens connections until no more are let in · `report` is the result.

mod args;
mod holding;
mod report;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Ownership;
use crate::client::{BodyRule, Request};
use crate::control::Control;
use crate::error::Error;
use crate::generator::{self, Harvest, Pace, Plan, Progress, SourceAddresses};
use crate::machine;
use crate::output::Output;
use crate::overload::watching::Watchers;
use crate::process::Watch;
use crate::progress::{ProgressDisplay, Visibility};
use crate::provenance::Provenance;
use crate::session::{Identity, Need};
use crate::ws;

use self::holding::Way;
use self::report::RECOVERED_WITHIN_S;

pub use self::args::{Resource, SaturationArgs};
pub use self::report::{Saturated, SaturationReport};

/// As before: so many requests in a row, each within this.
const CALM_REQUESTS: u32 = 3;
const CALM_WITHIN: Duration = Duration::from_millis(100);
/// Every run needs a moment to begin together.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Longest that a new connection may wait for each answer.
const LET_IN_WITHIN: Duration = Duration::from_secs(1);
/// The platform pings sockets after 25 s, and nobody here answers.
const SOCKETS_HOLD_MAX: Duration = Duration::from_secs(20);
/// How long a token must last.
const TOKEN_LASTS: Duration = Duration::from_secs(120);

/// Measures what `args` ask for, writes the table, and the JSON file where one is named.
pub fn run(args: &SaturationArgs, output: &mut Output<'_>) -> Result<SaturationReport, Error> {
    if args.quiet {
        output.be_quiet();
    }
    if let Some(pid) = Watch::new(&args.server_pid).missing_pid() {
        return Err(Error::usage(format!("there is no process {pid}")));
    }
    if !args.url.is_root() {
        return Err(Error::usage("--url names the server alone"));
    }
    if args.resources.contains(&Resource::Sockets) && args.hold > SOCKETS_HOLD_MAX {
        return Err(Error::usage(format!("sockets are held for {} s at most: see --hold", SOCKETS_HOLD_MAX.as_secs())));
    }
    let ownership = if args.i_own_this_host { Ownership::Claimed } else { Ownership::Unclaimed };
    let peer = args.url.resolve(ownership)?;
    machine::allow_connections(args.max.max(args.senders))?;
    let visibility = if output.is_quiet() { Visibility::Hidden } else { Visibility::Terminal };
    let n_runs = u32::try_from(args.resources.len()).unwrap_or(u32::MAX);
    let mut site = Site {
        args,
        peer,
        control: Control::new(peer, &args.url.authority())?,
        identity: args.account.identity(Need::Somebody)?,
        progress: ProgressDisplay::new(n_runs, args.hold, visibility),
    };
    let mut rows = Vec::with_capacity(args.resources.len());
    for (run_idx, resource) in (0..).zip(&args.resources) {
        let row = site.saturate(*resource, run_idx)?;
        output.note(&format!("{}: {} held, {} refused", row.resource, row.held, row.refused))?;
        rows.push(row);
    }
    site.progress.finish();
    let report = SaturationReport { provenance: Provenance::here(), url: format!("http://{}", args.url.authority()), rows };
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).map_err(Error::failed)?;
        std::fs::write(path, json + "\n").map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    for line in report::lines(&report) {
        output.result(&line)?;
    }
    Ok(report)
}

/// What a run needs of its command.
struct Site<'a> {
    args: &'a SaturationArgs,
    peer: SocketAddr,
    control: Control,
    identity: Identity,
    progress: ProgressDisplay,
}

/// What was taken, and what that took.
struct Taken {
    held: u32,
    refused: u64,
    refusal: Option<String>,
    per_second: f64,
}

impl Site<'_> {
    fn saturate(&mut self, resource: Resource, run_idx: u32) -> Result<Saturated, Error> {
        let label = resource.name();
        self.progress.begin_run(label);
        let mut memory = Watch::new(&self.args.server_pid);
        memory.begin();
        let watchers = Watchers::start(self.peer, &self.args.url.authority(), &Request::get("/healthz"))?;
        let way = self.way(resource)?;
        let (taken, released) = match resource {
            Resource::Http | Resource::Sockets => self.connections(&way, &mut memory, (label, run_idx))?,
            Resource::Pool => self.pool(&mut memory, run_idx)?,
        };
        let recovered_after_s = match resource {
            Resource::Sockets => self.recovery(released, || Ok(way.is_open()))?,
            Resource::Http | Resource::Pool => {
                let list = Request::get("/api/v1/jobs?limit=1").with_bearer(&self.token()?);
                let authority = self.args.url.authority();
                self.recovery(released, || Ok(Control::new(self.peer, &authority)?.fetch(&list).is_ok_and(|(status, _)| status == 200)))?
            }
        };
        let (health, _) = watchers.probes();
        watchers.finish();
        self.progress.end_run();
        Ok(Saturated {
            resource: label.to_owned(),
            held: taken.held,
            refused: taken.refused,
            refusal: taken.refusal,
            per_second: taken.per_second,
            health_max_ms: health.took.max() as f64 / 1e6,
            health_failed: health.n_failed,
            recovered_after_s,
            rss_peak_bytes: memory.finish().map(|usage| usage.rss_peak_bytes),
            is_kept: recovered_after_s.is_some_and(|s| s < RECOVERED_WITHIN_S) && health.n_failed == 0,
        })
    }

    /// How connections of this kind are opened.
    fn way(&mut self, resource: Resource) -> Result<Way, Error> {
        let authority = self.args.url.authority();
        match resource {
            Resource::Sockets => {
                let (request, sign_in) = ws::opening(&authority, &self.token()?);
                Ok(Way { peer: self.peer, request, status: "101", sign_in: Some(sign_in), within: LET_IN_WITHIN })
            }
            Resource::Http | Resource::Pool => {
                let request = Request::get("/healthz").to_bytes(&authority).map_err(Error::usage)?.into_vec();
                Ok(Way { peer: self.peer, request, status: "200", sign_in: None, within: LET_IN_WITHIN })
            }
        }
    }

    /// Connections that were answered, and then say nothing until they are closed all at once.
    fn connections(&mut self, way: &Way, memory: &mut Watch, (label, run_idx): (&str, u32)) -> Result<(Taken, Instant), Error> {
        let progress = &self.progress;
        let mut held = way.open_all(self.args.max, run_idx, |n| {
            if n % 100 == 0 {
                progress.phase(label, &format!("{n} opened"));
            }
        })?;
        memory.sample();
        self.control.pause(self.args.hold);
        memory.sample();
        let per_second = f64::from(held.n()) / held.took.as_secs_f64().max(0.001);
        held.keep_open();
        let taken = Taken { held: held.n(), refused: u64::from(held.refused), refusal: held.refusal.clone(), per_second };
        let released = Instant::now();
        drop(held);
        Ok((taken, released))
    }

    /// Lists of jobs, each of which takes a connection of the pool for a while: many more at once than there are.
    fn pool(&mut self, memory: &mut Watch, run_idx: u32) -> Result<(Taken, Instant), Error> {
        let list = Request::get("/api/v1/jobs?limit=200").with_bearer(&self.token()?);
        let plan = Arc::new(Plan {
            peer: self.peer,
            requests: vec![list.to_bytes(&self.args.url.authority()).map_err(Error::usage)?],
            body_rule: BodyRule::Expected,
            connections: self.args.senders,
            threads: 1,
            pace: Pace::Closed,
            warmup: AT_ONCE,
            duration: self.args.hold,
            timeout: self.args.timeout,
            sources: SourceAddresses::for_run(self.peer, self.args.senders, run_idx),
            budget: None,
            harvest: Harvest::Nothing,
        });
        let mut observe = |seen: Progress| {
            if let Progress::Running { .. } = seen {
                memory.sample();
            }
        };
        let load = generator::run(&plan, &mut observe).map_err(Error::failed)?;
        let released = Instant::now();
        let refused = load.recorder.statuses.iter().filter(|(status, _)| **status >= 400);
        let taken = Taken {
            held: self.args.senders - load.unconnected,
            refused: refused.clone().map(|(_, count)| count).sum(),
            refusal: refused.map(|(status, _)| format!("HTTP {status}")).next(),
            per_second: load.recorder.ok_in_window as f64 / self.args.hold.as_secs_f64(),
        };
        Ok((taken, released))
    }

    /// Seconds from `released` until new connections are answered as before.
    fn recovery(&self, released: Instant, is_answered: impl Fn() -> Result<bool, Error>) -> Result<Option<f64>, Error> {
        let (mut n_calm, mut since) = (0, released);
        while released.elapsed() < self.args.within {
            let sent = Instant::now();
            if !is_answered()? || sent.elapsed() > CALM_WITHIN {
                (n_calm, since) = (0, Instant::now());
                continue;
            }
            n_calm += 1;
            if n_calm == CALM_REQUESTS {
                return Ok(Some(since.saturating_duration_since(released).as_secs_f64()));
            }
        }
        Ok(None)
    }

    fn token(&mut self) -> Result<String, Error> {
        Ok(self.identity.token(&mut self.control, TOKEN_LASTS)?.unwrap_or_default().to_owned())
    }
}
