//! `millrace-loadtest rolling`: a command that restarts processes, under load, and what callers notice of it.
//!
//! `args` is the command line · `callers` read, write and wait over HTTP; `ws::Audience` listens · `report` is the result, and says what is not well.

mod args;
mod callers;
mod report;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::callers::{Crowd, Site, Tally, call};
use crate::address::Ownership;
use crate::control::Control;
use crate::error::Error;
use crate::jobs::{Ledger, Platform, QueueState};
use crate::output::Output;
use crate::provenance::{Provenance, run_name};
use crate::session::Need;
use crate::ws::{Audience, Heard, Seats};

pub use self::args::RollingArgs;
pub use self::callers::{Requests, Submits};
pub use self::report::RollingReport;

/// How often the command, and the queue, is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Does what `args` ask for, writes the result, and fails if callers noticed anything.
pub fn run(args: &RollingArgs, output: &mut Output<'_>) -> Result<RollingReport, Error> {
    if args.quiet {
        output.be_quiet();
    }
    if !args.url.is_root() {
        return Err(Error::usage("--url names the server alone"));
    }
    if !(0.1..=10_000.0).contains(&args.publications) {
        return Err(Error::usage("--publications is 0.1 to 10000 per second"));
    }
    let report = measure(args, output)?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).map_err(Error::failed)?;
        std::fs::write(path, json + "\n").map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    for line in report.lines() {
        output.result(&line)?;
    }
    match &*report.violations {
        [] => Ok(report),
        violations => Err(Error::failed(format!("callers noticed: {}", violations.join("; ")))),
    }
}

fn measure(args: &RollingArgs, output: &mut Output<'_>) -> Result<RollingReport, Error> {
    let ownership = if args.i_own_this_host { Ownership::Claimed } else { Ownership::Unclaimed };
    let (peer, authority) = (args.url.resolve(ownership)?, args.url.authority());
    let mut platform = Platform::new(Control::new(peer, &authority)?, args.account.identity(Need::Somebody)?);
    let token = platform.token(args.within + args.settle + args.timeout)?;
    let run = run_name("rolling");
    let (queue, idle_queue) = (run.clone(), format!("{run}-idle"));
    let site =
        Site { peer, authority, token, queue: queue.clone(), idle_queue: idle_queue.clone(), timeout: args.timeout, pause: args.pause };
    let report = with_queues(args, &run, site, &mut platform, output);
    // However it went: what nobody runs would wait there for ever.
    let cleared = [queue, idle_queue].map(|queue| platform.clear(&queue));
    let report = report?;
    cleared.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(report)
}

/// The load on queues of its own, and what became of it.
fn with_queues(
    args: &RollingArgs,
    run: &str,
    site: Site,
    platform: &mut Platform,
    output: &mut Output<'_>,
) -> Result<RollingReport, Error> {
    let queue = site.queue.clone();
    platform.make_queue(&queue, QueueState::Running)?;
    platform.make_queue(&site.idle_queue, QueueState::Paused)?;
    let mut audience = Audience::open(Seats {
        peer: site.peer,
        authority: site.authority.clone(),
        token: site.token.clone(),
        channels: (0..args.channels).map(|channel| format!("{}:{run}-{channel}", args.namespace)).collect(),
        n_sockets: args.sockets,
        timeout: args.timeout,
    })?;
    let longest = args.within + 2 * args.margin;
    audience.begin(args.publications, args.channels.min(args.sockets), longest, args.settle)?;
    let (tally, command_s) = under_load(args, site, platform, output)?;
    let sockets = audience.end()?;
    output.note("the load is over; looking at what became of it")?;
    until_drained(platform, &queue, args.settle)?;
    let ledger = Ledger::draw_up(platform, &queue, &tally.submits.ids, 0)?;
    Ok(finish(args, tally, command_s, ledger, sockets))
}

fn finish(args: &RollingArgs, tally: Tally, command_s: f64, ledger: Ledger, sockets: Heard) -> RollingReport {
    let mut report = RollingReport {
        provenance: Provenance::here(),
        url: format!("http://{}", args.url.authority()),
        command_s,
        gets: tally.gets,
        submits: tally.submits,
        waits: tally.waits,
        ledger,
        sockets,
        violations: Vec::new(),
    };
    report.violations = report.find_violations();
    report
}

/// Has everyone call while the command runs, and a moment before and after.
fn under_load(args: &RollingArgs, site: Site, platform: &Platform, output: &mut Output<'_>) -> Result<(Tally, f64), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    let crowd = Crowd { readers: args.readers, writers: args.writers, waiters: args.waiters };
    let told = Arc::clone(&stop);
    let calling = std::thread::Builder::new().name("callers".to_owned()).spawn(move || call(&site, crowd, &told)).map_err(Error::failed)?;
    platform.pause(args.margin);
    output.note(&format!("under load: {}", args.command.join(" ")))?;
    let outcome = run_command(args, platform);
    platform.pause(args.margin);
    stop.store(true, Ordering::Relaxed);
    let tally = calling.join().map_err(|_| Error::failed("the callers broke down"))??;
    Ok((tally, outcome?))
}

/// Seconds that the command took; it must end well, and in time.
fn run_command(args: &RollingArgs, platform: &Platform) -> Result<f64, Error> {
    let [program, arguments @ ..] = &*args.command else { return Err(Error::usage("there is no command")) };
    let began = Instant::now();
    // Its output is for people, and ours is the result.
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(std::io::stderr()).spawn();
    let mut child = Running(child.map_err(|error| Error::failed(format!("cannot run {program}: {error}")))?);
    loop {
        match child.0.try_wait().map_err(Error::failed)? {
            Some(status) if status.success() => return Ok(began.elapsed().as_secs_f64()),
            Some(status) => return Err(Error::failed(format!("{program} failed: {status}"))),
            None if began.elapsed() > args.within => return Err(Error::failed(format!("{program} did not end within {:?}", args.within))),
            None => platform.pause(LOOK_EVERY),
        }
    }
}

/// The command, which does not outlive us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

fn until_drained(platform: &mut Platform, queue: &str, within: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + within;
    while platform.live_jobs(queue)? > 0 && Instant::now() < deadline {
        platform.pause(LOOK_EVERY);
    }
    Ok(())
}
