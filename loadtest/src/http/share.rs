//! A process that holds a share of a run's connections, for runs that are too large for one. It is told what to do on standard
//! input and answers on standard output: one JSON object per line.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::client::BodyRule;
use crate::error::Error;
use crate::generator::{self, Counts, Harvest, Load, Pace, Plan, Recorder, SourceAddresses, Window};
use crate::machine;
use crate::ws::now_ns;

/// The hidden subcommand that makes such a process of this program.
pub(crate) const SHARE_COMMAND: &str = "http-share";

/// What a share is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Answered by `Connected`.
    Connect(Box<Share>),
    /// When to begin, on the machine's monotonic clock; answered by `Done`.
    Launch { at_ns: u64 },
}

/// One share: a plan, as far as it can be written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Share {
    pub(super) peer: SocketAddr,
    pub(super) requests: Vec<Vec<u8>>,
    pub(super) is_head_only: bool,
    pub(super) connections: u32,
    pub(super) threads: u32,
    /// None is the closed loop.
    pub(super) rate_per_s: Option<f64>,
    pub(super) max_waiting: u64,
    pub(super) warmup_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) timeout_ns: u64,
    /// Which run of the machine this is: decides on source addresses.
    pub(super) run_idx: u32,
}

/// What a share answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    Connected { unconnected: u32, connect_ns: u64 },
    Done(Box<Harvested>),
    Failed(String),
}

/// What a share counted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Harvested {
    statuses: Vec<(u16, u64)>,
    offered: Option<u64>,
    started: u64,
    ok_in_window: u64,
    timeouts: u64,
    closed: u64,
    malformed: u64,
    connect_failures: u64,
    reconnects: u64,
    late: u64,
    latency: Counts,
    refusal_latency: Counts,
    service_time: Counts,
}

impl Share {
    /// The whole of a plan.
    pub(super) fn of(plan: &Plan, run_idx: u32) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let (rate_per_s, max_waiting) = match plan.pace {
            Pace::Closed => (None, 0),
            Pace::Open { rate_per_s, max_waiting } => (Some(rate_per_s), max_waiting),
        };
        Self {
            peer: plan.peer,
            requests: plan.requests.iter().map(|bytes| bytes.to_vec()).collect(),
            is_head_only: plan.body_rule == BodyRule::HeadOnly,
            connections: plan.connections,
            threads: plan.threads,
            rate_per_s,
            max_waiting,
            warmup_ns: nanos(plan.warmup),
            duration_ns: nanos(plan.duration),
            timeout_ns: nanos(plan.timeout),
            run_idx,
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            peer: self.peer,
            requests: self.requests.iter().map(|bytes| bytes.clone().into_boxed_slice()).collect(),
            body_rule: if self.is_head_only { BodyRule::HeadOnly } else { BodyRule::Expected },
            connections: self.connections,
            threads: self.threads,
            pace: self.rate_per_s.map_or(Pace::Closed, |rate_per_s| Pace::Open { rate_per_s, max_waiting: self.max_waiting }),
            warmup: Duration::from_nanos(self.warmup_ns),
            duration: Duration::from_nanos(self.duration_ns),
            timeout: Duration::from_nanos(self.timeout_ns),
            sources: SourceAddresses::for_run(self.peer, self.connections, self.run_idx),
            budget: None,
            harvest: Harvest::Nothing,
        }
    }
}

impl Harvested {
    fn of(load: Load) -> Self {
        let recorder = load.recorder;
        Self {
            statuses: recorder.statuses.into_iter().collect(),
            offered: load.offered,
            started: recorder.started,
            ok_in_window: recorder.ok_in_window,
            timeouts: recorder.timeouts,
            closed: recorder.closed,
            malformed: recorder.malformed,
            connect_failures: recorder.connect_failures,
            reconnects: recorder.reconnects,
            late: recorder.late,
            latency: Counts::of(&recorder.latency),
            refusal_latency: Counts::of(&recorder.refusal_latency),
            service_time: Counts::of(&recorder.service_time),
        }
    }

    /// Adds it to what others counted in the same window.
    pub(super) fn add_to(self, load: &mut Load, window: Window) {
        let mut recorder = Recorder::new(window);
        recorder.statuses = self.statuses.into_iter().collect();
        recorder.started = self.started;
        recorder.ok_in_window = self.ok_in_window;
        recorder.timeouts = self.timeouts;
        recorder.closed = self.closed;
        recorder.malformed = self.malformed;
        recorder.connect_failures = self.connect_failures;
        recorder.reconnects = self.reconnects;
        recorder.late = self.late;
        self.latency.add_to(&mut recorder.latency);
        self.refusal_latency.add_to(&mut recorder.refusal_latency);
        self.service_time.add_to(&mut recorder.service_time);
        load.recorder.absorb(recorder);
        load.offered = self.offered.map(|n_more| load.offered.unwrap_or(0) + n_more);
    }
}

/// Does what standard input says, and ends with it.
pub(crate) fn run() -> Result<(), Error> {
    let mut lines = io::stdin().lock().lines();
    let mut next = || -> Option<Order> { serde_json::from_str(&lines.next()?.ok()?).ok() };
    let Some(Order::Connect(share)) = next() else {
        return Err(Error::usage("this command is for the load tester itself: it takes orders on standard input"));
    };
    let done = obey(&share, &mut next);
    match done {
        Ok(Some(harvested)) => tell(&Told::Done(Box::new(harvested))),
        // Nobody wants the figures any more.
        Ok(None) => Ok(()),
        Err(error) => tell(&Told::Failed(error.to_string())),
    }
}

fn obey(share: &Share, next: &mut dyn FnMut() -> Option<Order>) -> Result<Option<Harvested>, Error> {
    machine::allow_connections(share.connections)?;
    let standing = generator::connect(&Arc::new(share.plan())).map_err(Error::failed)?;
    let connect_ns = u64::try_from(standing.connect_time.as_nanos()).unwrap_or(u64::MAX);
    tell(&Told::Connected { unconnected: standing.unconnected, connect_ns })?;
    let Some(Order::Launch { at_ns }) = next() else { return Ok(None) };
    let launch = Instant::now() + Duration::from_nanos(at_ns.saturating_sub(now_ns()));
    let load = standing.launch(launch, &mut |_| ()).map_err(Error::failed)?;
    Ok(Some(Harvested::of(load)))
}

fn tell(told: &Told) -> Result<(), Error> {
    let mut line = serde_json::to_vec(told).map_err(Error::failed)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    Ok(output.write_all(&line).and_then(|()| output.flush())?)
}
