//! Runs that are too large for one process, or go to several servers: a process for each share of the connections, which all
//! begin at the same moment.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::share::{Order, SHARE_COMMAND, Share, Told};
use crate::error::Error;
use crate::generator::{Load, Recorder, Window};
use crate::ws::now_ns;

/// Connections that one process holds: many machines let a process open 20,000 files, and some are not connections.
const CONNECTIONS_PER_SHARE: u32 = 19_500;
/// From the order to launch to the launch, so that every process is waiting for it.
const LAUNCH_DELAY: Duration = Duration::from_millis(100);
/// How often the observer hears of the run.
const TICK: Duration = Duration::from_millis(100);

/// Processes for so many connections to so many servers; 1 is this process alone.
pub(super) fn n_shares(connections: u32, n_servers: usize) -> u32 {
    let n_servers = u32::try_from(n_servers.max(1)).unwrap_or(u32::MAX);
    let per_server = connections.div_ceil(n_servers);
    n_servers.min(connections) * per_server.div_ceil(CONNECTIONS_PER_SHARE)
}

/// `whole` dealt out to servers in turn: peer, connections, and the part that this is of all.
pub(super) fn deal(whole: &Share, peers: &[SocketAddr]) -> Vec<Share> {
    let n_shares = n_shares(whole.connections, peers.len());
    let part = |idx: u32| whole.connections / n_shares + u32::from(idx < whole.connections % n_shares);
    let share = |idx: u32| {
        let connections = part(idx);
        let fraction = f64::from(connections) / f64::from(whole.connections);
        Share {
            peer: peers[idx as usize % peers.len()],
            connections,
            threads: (whole.threads / n_shares).max(1),
            rate_per_s: whole.rate_per_s.map(|rate| rate * fraction),
            max_waiting: whole.max_waiting.div_ceil(u64::from(n_shares)),
            run_idx: whole.run_idx * n_shares + idx,
            ..whole.clone()
        }
    };
    (0..n_shares).map(share).collect()
}

/// What goes on, for who watches servers meanwhile.
pub(super) enum Seen {
    Measuring,
    Running { elapsed: Duration },
    Ended,
}

pub(super) struct Crew {
    members: Vec<Member>,
}

struct Member {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Crew {
    pub(super) fn start(n_members: usize) -> Result<Self, Error> {
        Ok(Self { members: (0..n_members).map(|_| Member::start()).collect::<Result<_, _>>()? })
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.child.id()).collect()
    }

    /// Connects, launches together, and adds up.
    pub(super) fn run(mut self, shares: Vec<Share>, observe: &mut dyn FnMut(Seen)) -> Result<Load, Error> {
        let (warmup, duration) = shares.first().map_or((0, 0), |share| (share.warmup_ns, share.duration_ns));
        for (member, share) in self.members.iter_mut().zip(shares) {
            member.order(&Order::Connect(Box::new(share)))?;
        }
        let (mut unconnected, mut connect_ns) = (0, 0);
        for member in &mut self.members {
            let Told::Connected { unconnected: more, connect_ns: took_ns } = member.told()? else { return Err(misunderstood()) };
            unconnected += more;
            connect_ns = connect_ns.max(took_ns);
        }
        let at_ns = now_ns() + u64::try_from(LAUNCH_DELAY.as_nanos()).unwrap_or(0);
        let launch = Instant::now() + LAUNCH_DELAY;
        for member in &mut self.members {
            member.order(&Order::Launch { at_ns })?;
        }
        let start = launch + Duration::from_nanos(warmup);
        let window = Window { launch, start, end: start + Duration::from_nanos(duration) };
        watch(window, observe);
        let connect_time = Duration::from_nanos(connect_ns);
        let mut load = Load { recorder: Recorder::new(window), offered: None, connect_time, unconnected };
        for member in &mut self.members {
            let Told::Done(harvested) = member.told()? else { return Err(misunderstood()) };
            harvested.add_to(&mut load, window);
        }
        Ok(load)
    }
}

fn misunderstood() -> Error {
    Error::failed("a load process said something unexpected")
}

fn watch(window: Window, observe: &mut dyn FnMut(Seen)) {
    pause_until(window.start);
    observe(Seen::Measuring);
    let mut next_tick = window.start + TICK;
    while next_tick < window.end {
        pause_until(next_tick);
        observe(Seen::Running { elapsed: window.start.elapsed() });
        next_tick += TICK;
    }
    pause_until(window.end);
    observe(Seen::Ended);
}

/// Nobody sends: this is a pause.
fn pause_until(at: Instant) {
    let (_nobody, nothing) = std::sync::mpsc::sync_channel::<()>(1);
    let _ = nothing.recv_timeout(at.saturating_duration_since(Instant::now()));
}

impl Member {
    fn start() -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(Error::failed)?;
        let mut child = Command::new(program)
            .arg(SHARE_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Error::failed(format!("cannot start a load process: {error}")))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(orders), Some(answers)) => Ok(Self { child, orders, answers: BufReader::new(answers) }),
            _ => Err(Error::failed("a load process has no input or output")),
        }
    }

    fn order(&mut self, order: &Order) -> Result<(), Error> {
        let mut line = serde_json::to_vec(order).map_err(Error::failed)?;
        line.push(b'\n');
        let written = self.orders.write_all(&line).and_then(|()| self.orders.flush());
        written.map_err(|error| Error::failed(format!("a load process is gone: {error}")))
    }

    /// Its own timeouts bound how long this waits.
    fn told(&mut self) -> Result<Told, Error> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(Error::failed)?;
        match serde_json::from_str(&line) {
            Ok(Told::Failed(reason)) => Err(Error::failed(reason)),
            Ok(told) => Ok(told),
            Err(_) => Err(Error::failed("a load process ended unexpectedly")),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // One that is still under way is not wanted any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(connections: u32) -> Share {
        Share {
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            requests: Vec::new(),
            is_head_only: false,
            connections,
            threads: 4,
            rate_per_s: Some(3_000.0),
            max_waiting: 100,
            warmup_ns: 0,
            duration_ns: 0,
            timeout_ns: 0,
            run_idx: 2,
        }
    }

    #[test]
    fn a_process_is_added_for_each_server_and_for_what_one_cannot_hold() {
        let seen = [(100, 1), (19_500, 1), (19_501, 1), (24_000, 2), (60_000, 2), (1, 2)].map(|(n, servers)| n_shares(n, servers));
        assert_eq!(seen, [1, 1, 2, 2, 4, 1]);
    }

    #[test]
    fn shares_are_dealt_out_to_the_last_connection_with_the_rate_that_belongs_to_them() {
        let peers = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let shares = deal(&whole(24_001), &peers);
        let seen: Vec<_> = shares.iter().map(|share| (share.peer.port(), share.connections, share.threads, share.run_idx)).collect();
        assert_eq!(seen, [(1, 12_001, 2, 4), (2, 12_000, 2, 5)]);
        assert_eq!(shares.iter().filter_map(|share| share.rate_per_s).sum::<f64>().round(), 3_000.0);
    }
}
