//! `millrace-loadtest files`: uploads of one size, so many at once, step by step, with the memory that the server needs for them.

mod args;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::address::Ownership;
use crate::client::{BodyRule, Method, Request};
use crate::columns::{aligned, dash, grouped, short_ms};
use crate::control::Control;
use crate::error::Error;
use crate::generator::{self, Budget, Harvest, Pace, Plan, Progress, SourceAddresses};
use crate::http::{Figures, Usages};
use crate::machine;
use crate::output::Output;
use crate::process::Watch;
use crate::provenance::Provenance;
use crate::session::{Identity, Need};

pub use self::args::FilesArgs;

/// Longer than any step takes.
const LONGEST: Duration = Duration::from_secs(600);
/// Every run needs a moment to begin together.
const AT_ONCE: Duration = Duration::from_millis(1);
/// How long a token must last that is used for one question.
const TOKEN_LASTS: Duration = Duration::from_secs(30);
/// By which our files are known again.
const NAME: &str = "millrace-loadtest.bin";
const BOUNDARY: &str = "millrace-loadtest-8f1c3a";

/// All steps, as they are written to JSON.
#[derive(Debug, Clone, Serialize)]
pub struct FilesReport {
    #[serde(flatten)]
    pub provenance: Provenance,
    pub size_mib: u32,
    pub steps: Vec<FilesStep>,
}

/// So many uploads at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FilesStep {
    pub connections: u32,
    pub uploads: u64,
    pub elapsed_s: f64,
    pub mib_per_s: f64,
    /// Highest resident memory of --server-pid; null without.
    pub rss_peak_bytes: Option<u64>,
    pub requests: Figures,
}

/// Does what `args` ask for. An upload that fails is an error, told after the figures.
pub fn run(args: &FilesArgs, output: &mut Output<'_>) -> Result<FilesReport, Error> {
    if args.quiet {
        output.be_quiet();
    }
    let ownership = if args.i_own_this_host { Ownership::Claimed } else { Ownership::Unclaimed };
    let peer = args.url.resolve(ownership)?;
    let control = Control::new(peer, &args.url.authority())?;
    let mut site = Site { args, peer, control, identity: args.account.identity(Need::Somebody)? };
    machine::allow_connections(args.connections.iter().copied().max().unwrap_or(1))?;
    let mut steps = Vec::with_capacity(args.connections.len());
    for connections in &args.connections {
        let step = site.step(*connections)?;
        if !args.keep {
            site.delete_ours()?;
        }
        output.note(&format!("{connections} at once: {:.0} MiB/s", step.mib_per_s))?;
        steps.push(step);
    }
    let report = FilesReport { provenance: Provenance::here(), size_mib: args.size, steps };
    write(args, &report, output)?;
    match report.steps.iter().map(|step| step.requests.errors.total).sum::<u64>() {
        0 => Ok(report),
        n_failed => Err(Error::failed(format!("{n_failed} uploads failed"))),
    }
}

fn write(args: &FilesArgs, report: &FilesReport, output: &mut Output<'_>) -> Result<(), Error> {
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(report).map_err(Error::failed)?;
        std::fs::write(path, json + "\n").map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    output.result(&report.provenance.summary())?;
    output.result("")?;
    let headings = ["at once", "uploads", "s", "MiB/s", "errors", "p50 ms", "p99", "max", "server's peak MiB"];
    let mut cells = vec![headings.map(str::to_owned).to_vec()];
    for step in &report.steps {
        let latency = step.requests.latency_ms.as_ref();
        let ms = |of: fn(&crate::http::Percentiles) -> f64| latency.map_or(dash(), |latency| short_ms(of(latency)));
        cells.push(vec![
            grouped(f64::from(step.connections)),
            grouped(step.uploads as f64),
            format!("{:.2}", step.elapsed_s),
            grouped(step.mib_per_s),
            grouped(step.requests.errors.total as f64),
            ms(|latency| latency.p50),
            ms(|latency| latency.p99),
            ms(|latency| latency.max),
            step.rss_peak_bytes.map_or(dash(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0)),
        ]);
    }
    for line in aligned(&cells) {
        output.result(&line)?;
    }
    Ok(())
}

/// What a step needs of its command.
struct Site<'a> {
    args: &'a FilesArgs,
    peer: SocketAddr,
    control: Control,
    identity: Identity,
}

impl Site<'_> {
    /// Each connection uploads one file after the other.
    fn step(&mut self, connections: u32) -> Result<FilesStep, Error> {
        let n_uploads = u64::from(connections) * u64::from(self.args.uploads);
        let plan = Arc::new(Plan {
            peer: self.peer,
            requests: vec![self.upload()?],
            body_rule: BodyRule::Expected,
            connections,
            threads: self.args.threads,
            pace: Pace::Closed,
            warmup: AT_ONCE,
            duration: LONGEST,
            timeout: self.args.timeout,
            sources: SourceAddresses::for_run(self.peer, connections, 0),
            budget: Some(Budget::new(n_uploads)),
            harvest: Harvest::Nothing,
        });
        let mut watch = Watch::new(&self.args.server_pid);
        let mut launched = Instant::now();
        let mut observe = |seen: Progress| match seen {
            Progress::WarmingUp => launched = Instant::now(),
            Progress::Measuring { .. } => watch.begin(),
            Progress::Running { .. } => watch.sample(),
            Progress::Ended => {}
        };
        let load = generator::run(&plan, &mut observe).map_err(Error::failed)?;
        let elapsed = load.recorder.last_ok_at.map_or_else(|| launched.elapsed(), |at| at.saturating_duration_since(launched));
        let server = watch.finish();
        let requests = Figures::of(&plan, load, Usages { server: None, generator: None });
        let elapsed_s = elapsed.as_secs_f64();
        Ok(FilesStep {
            connections,
            uploads: n_uploads,
            elapsed_s,
            mib_per_s: n_uploads as f64 * f64::from(self.args.size) / elapsed_s,
            rss_peak_bytes: server.map(|usage| usage.rss_peak_bytes),
            requests,
        })
    }

    fn upload(&mut self) -> Result<Box<[u8]>, Error> {
        let token = self.token(LONGEST)?;
        let mut request = Request::post_json("/api/v1/files", &serde_json::Value::Null).with_bearer(&token);
        request.headers.retain(|(name, _)| name != "Content-Type");
        request.headers.push(("Content-Type".into(), format!("multipart/form-data; boundary={BOUNDARY}")));
        request.body = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{NAME}\"\r\n\r\n").into_bytes();
        let n_bytes = u64::from(self.args.size) << 20;
        // No byte of it is a line's end, which the server would look at twice.
        request.body.extend((0..n_bytes).map(|at| (at % 251) as u8 | 0x80));
        request.body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        request.to_bytes(&self.args.url.authority()).map_err(Error::usage)
    }

    fn delete_ours(&mut self) -> Result<(), Error> {
        loop {
            let token = self.token(TOKEN_LASTS)?;
            let page = self.control.expect(200, "listing files", &Request::get("/api/v1/files?limit=200").with_bearer(&token))?;
            let items = page["items"].as_array().into_iter().flatten();
            let ids: Vec<&str> = items.filter(|file| file["name"] == NAME).filter_map(|file| file["id"].as_str()).collect();
            if ids.is_empty() {
                return Ok(());
            }
            for id in ids {
                let request = Request::json(Method::Delete, format!("/api/v1/files/{id}"), &serde_json::json!({}));
                self.control.expect(204, "deleting a file", &request.with_bearer(&token))?;
            }
        }
    }

    fn token(&mut self, needed_for: Duration) -> Result<String, Error> {
        Ok(self.identity.token(&mut self.control, needed_for)?.unwrap_or_default().to_owned())
    }
}
