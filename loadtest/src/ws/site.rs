//! Where a command measures: the platform and the reference, who connects, and how sockets are dealt out over client processes.

use std::time::Duration;

use super::args::{SOCKETS_PER_CLIENT, WsArgs};
use super::client::now_ns;
use super::crew::{Crew, Share};
use super::orders::{Dialect, Plan, State, Target, Window};
use super::report::Opening;
use super::target::WsUrl;
use crate::address::{HttpUrl, Ownership};
use crate::control::Control;
use crate::error::Error;
use crate::process::Watch;
use crate::session::{Identity, Need};

/// The platform's own path for sockets.
pub(super) const SOCKET_PATH: &str = "/connection/websocket";
/// From an order to its launch, so that every process is waiting for it.
const LAUNCH_DELAY: Duration = Duration::from_millis(100);
/// Time that a token must last at the least; sockets renew nothing.
const TOKEN_FOR: Duration = Duration::from_secs(60);
/// Most access tokens taken from a file.
const MAX_TOKENS: usize = 200_000;

/// One of the two servers compared.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) dialect: Dialect,
    pub(super) targets: Vec<Target>,
    pub(super) pids: Vec<u32>,
}

/// Everything that runs have in common.
pub(super) struct Site<'a> {
    pub(super) args: &'a WsArgs,
    pub(super) platform: Side,
    pub(super) reference: Option<Side>,
    access: Access,
    n_runs_begun: u32,
}

/// What sockets show when they connect.
enum Access {
    Nothing,
    Tokens(Vec<String>),
    Session { identity: Identity, control: Box<Control> },
}

/// The sockets of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sockets<'a> {
    pub(super) n_sockets: u32,
    pub(super) n_channels: u32,
    pub(super) reconnects: bool,
    pub(super) rpc_method: &'a str,
}

impl<'a> Site<'a> {
    /// `reference_path` is where the bare server does what is measured.
    pub(super) fn prepare(args: &'a WsArgs, reference_path: &str) -> Result<Self, Error> {
        let pids = [args.server_pid.as_slice(), args.reference_pid.as_slice()].concat();
        if let Some(pid) = Watch::new(&pids).missing_pid() {
            return Err(Error::usage(format!("there is no process {pid}")));
        }
        let is_plain = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !is_plain(&args.namespace) {
            return Err(Error::usage("--namespace is a name of letters, digits, and _ - ."));
        }
        let ownership = if args.i_own_this_host { Ownership::Claimed } else { Ownership::Unclaimed };
        let targets = |urls: &[WsUrl], path: &str| urls.iter().map(|url| url.target(path, ownership)).collect::<Result<Vec<_>, Error>>();
        let platform = Side { dialect: Dialect::Protocol, targets: targets(&args.url, SOCKET_PATH)?, pids: args.server_pid.clone() };
        let reference = match &args.reference_url {
            Some(url) => {
                let targets = targets(std::slice::from_ref(url), reference_path)?;
                Some(Side { dialect: Dialect::Bare, targets, pids: args.reference_pid.clone() })
            }
            None => None,
        };
        let access = Access::of(args, args.url[0].http(), &platform.targets[0])?;
        Ok(Self { args, platform, reference, access, n_runs_begun: 0 })
    }

    pub(super) fn n_clients(&self, n_sockets: u32) -> u32 {
        let needed = n_sockets.div_ceil(SOCKETS_PER_CLIENT);
        self.args.clients.unwrap_or(needed).max(needed).min(n_sockets.max(1))
    }

    /// Starts the client processes of a run against `side`.
    pub(super) fn crew(&mut self, side: &Side, sockets: Sockets<'_>, needed_for: Duration) -> Result<Crew, Error> {
        let tokens = match side.dialect {
            Dialect::Protocol => self.access.tokens(needed_for)?,
            Dialect::Bare => Vec::new(),
        };
        let run_idx = self.n_runs_begun;
        self.n_runs_begun += 1;
        let unique = format!("{}-{}", std::process::id(), now_ns() / 1_000_000);
        let n_clients = self.n_clients(sockets.n_sockets);
        let largest = sockets.n_sockets.div_ceil(n_clients);
        let plan = |client: u32| Plan {
            dialect: side.dialect,
            targets: side.targets.clone(),
            channels: (0..sockets.n_channels).map(|channel| format!("{}:load-{unique}-{channel}", self.args.namespace)).collect(),
            http_token: tokens.first().cloned(),
            tokens: tokens.clone(),
            // Each begins with the first channel and the first target.
            first_number: client * largest.next_multiple_of(sockets.n_channels.max(1) * side.targets.len() as u32),
            n_sockets_here: largest,
            n_sockets_in_all: sockets.n_sockets,
            run_idx,
            at_once: self.args.at_once,
            timeout_ns: self.args.timeout.as_nanos() as u64,
            reconnects: sockets.reconnects,
            rpc_method: sockets.rpc_method.to_owned(),
        };
        Crew::start((0..n_clients).map(plan).collect())
    }
}

impl Access {
    fn of(args: &WsArgs, url: &HttpUrl, target: &Target) -> Result<Self, Error> {
        if args.anonymous {
            return Ok(Access::Nothing);
        }
        if let Some(path) = &args.tokens {
            let text = std::fs::read_to_string(path).map_err(|error| Error::usage(format!("cannot read {}: {error}", path.display())))?;
            let tokens: Vec<String> =
                text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_TOKENS).map(str::to_owned).collect();
            return match tokens.is_empty() {
                true => Err(Error::usage(format!("{} holds no token", path.display()))),
                false => Ok(Access::Tokens(tokens)),
            };
        }
        let identity = args.account.identity(Need::Somebody)?;
        Ok(Access::Session { identity, control: Box::new(Control::new(target.peer, &url.authority())?) })
    }

    fn tokens(&mut self, needed_for: Duration) -> Result<Vec<String>, Error> {
        match self {
            Access::Nothing => Ok(Vec::new()),
            Access::Tokens(tokens) => Ok(tokens.clone()),
            Access::Session { identity, control } => {
                let token = identity.token(control, needed_for.max(TOKEN_FOR))?;
                Ok(token.map(str::to_owned).into_iter().collect())
            }
        }
    }
}

/// `n_sockets` dealt out over `n_clients`, the first `n_stuck` of which never read.
pub(super) fn shares(n_sockets: u32, n_clients: u32, n_stuck: u32) -> Vec<Share> {
    let part = |whole: u32, at: u32| whole / n_clients + u32::from(at < whole % n_clients);
    (0..n_clients).map(|at| Share { n_sockets: part(n_sockets, at), n_stuck: part(n_stuck, at) }).collect()
}

/// When an order begins, is measured, and ends.
pub(super) fn window(warmup: Duration, duration: Duration) -> Window {
    let launch_ns = now_ns() + LAUNCH_DELAY.as_nanos() as u64;
    let start_ns = launch_ns + warmup.as_nanos() as u64;
    Window { launch_ns, start_ns, end_ns: start_ns + duration.as_nanos() as u64 }
}

/// Waits until `at_ns`, calling `meanwhile` now and then.
pub(super) fn wait_until(at_ns: u64, meanwhile: &mut dyn FnMut()) {
    /// How often.
    const LOOK_EVERY: Duration = Duration::from_millis(200);
    // Nobody sends: this is a pause that does not block the thread's own timers.
    let (_nobody, nothing) = std::sync::mpsc::sync_channel::<()>(1);
    loop {
        let left = Duration::from_nanos(at_ns.saturating_sub(now_ns()));
        if left.is_zero() {
            return;
        }
        let _ = nothing.recv_timeout(left.min(LOOK_EVERY));
        meanwhile();
    }
}

impl Opening {
    /// What opening so many sockets came to.
    pub(super) fn of(states: &[State]) -> Self {
        let mut sum = State::default();
        for state in states {
            sum.add(state);
        }
        let elapsed_s = sum.opened_to_ns.saturating_sub(sum.opened_from_ns) as f64 / 1e9;
        let per_s = if elapsed_s > 0.0 { f64::from(sum.ready) / elapsed_s } else { 0.0 };
        Self { opened: sum.ready, failed: sum.failed, connects_per_s: per_s, causes: sum.causes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_dealt_out_to_the_last() {
        let dealt: Vec<(u32, u32)> = shares(11, 3, 2).iter().map(|share| (share.n_sockets, share.n_stuck)).collect();
        assert_eq!(dealt, [(4, 1), (4, 1), (3, 0)]);
    }
}
