//! The client processes: started from this very program, ordered about, and gone when this one is.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::causes;
use super::orders::{Order, Plan, State, Told};
use crate::error::Error;

/// The hidden subcommand that makes a client process of this program.
pub(crate) const CLIENT_COMMAND: &str = "ws-client";
/// Answers that may wait; a client gives one to each order.
const MAX_TOLD: usize = 16;
/// How often a wait looks at the servers' memory meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longest that opening sockets may take beyond their own timeouts.
const OPEN_WITHIN: Duration = Duration::from_secs(300);

pub(super) struct Crew {
    members: Vec<Member>,
}

struct Member {
    child: Child,
    /// None closes it, which ends the process.
    orders: Option<ChildStdin>,
    told: Receiver<Told>,
}

impl Crew {
    /// Starts a process for each plan.
    pub(super) fn start(plans: Vec<Plan>) -> Result<Self, Error> {
        let mut crew = Self { members: Vec::with_capacity(plans.len()) };
        for plan in plans {
            crew.members.push(Member::start()?);
            let at = crew.members.len() - 1;
            crew.order(at, &Order::Begin(Box::new(plan)))?;
        }
        Ok(crew)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.child.id()).collect()
    }

    pub(super) fn order(&mut self, at: usize, order: &Order) -> Result<(), Error> {
        let mut line = serde_json::to_vec(order).map_err(Error::failed)?;
        line.push(b'\n');
        let Some(orders) = &mut self.members[at].orders else { return Err(Error::failed("a client process is gone")) };
        orders.write_all(&line).and_then(|()| orders.flush()).map_err(|error| Error::failed(format!("a client process is gone: {error}")))
    }

    /// What a client process says next; `meanwhile` is called now and then.
    pub(super) fn told(&mut self, at: usize, within: Duration, meanwhile: &mut dyn FnMut()) -> Result<Told, Error> {
        let deadline = Instant::now() + within;
        loop {
            let pause = deadline.saturating_duration_since(Instant::now()).min(LOOK_EVERY);
            match self.members[at].told.recv_timeout(pause) {
                Ok(Told::Failed(reason)) => return Err(Error::failed(reason)),
                Ok(told) => return Ok(told),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::failed("a client process ended unexpectedly")),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    return Err(Error::failed("a client process does not answer"));
                }
                Err(RecvTimeoutError::Timeout) => meanwhile(),
            }
        }
    }

    /// Opens so many sockets on each, and waits until each is subscribed or has failed.
    pub(super) fn open(&mut self, shares: &[Share], meanwhile: &mut dyn FnMut()) -> Result<Vec<State>, Error> {
        for (at, share) in shares.iter().enumerate() {
            self.order(at, &Order::Open { n_sockets: share.n_sockets, n_stuck: share.n_stuck })?;
        }
        (0..shares.len())
            .map(|at| {
                let told = self.told(at, OPEN_WITHIN, meanwhile)?;
                let Told::Opened(state) = told else { return Err(unexpected(&told)) };
                Ok(state)
            })
            .collect()
    }

    /// Where all processes stand, added up.
    pub(super) fn state(&mut self) -> Result<State, Error> {
        let mut sum = State::default();
        for at in 0..self.members.len() {
            self.order(at, &Order::Report)?;
            let told = self.told(at, OPEN_WITHIN, &mut || ())?;
            let Told::State(state) = told else { return Err(unexpected(&told)) };
            sum.add(&state);
        }
        Ok(sum)
    }
}

/// What one process is to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) n_sockets: u32,
    pub(super) n_stuck: u32,
}

pub(super) fn unexpected(told: &Told) -> Error {
    Error::failed(format!("a client process said something unexpected: {told:?}"))
}

impl State {
    pub(super) fn add(&mut self, other: &State) {
        self.ready += other.ready;
        self.failed += other.failed;
        self.lost += other.lost;
        self.reconnects += other.reconnects;
        self.heartbeats += other.heartbeats;
        for (code, count) in &other.closes {
            *self.closes.entry(*code).or_default() += count;
        }
        causes::add(&mut self.causes, &other.causes);
        self.opened_from_ns = match self.opened_from_ns {
            0 => other.opened_from_ns,
            from_ns => from_ns.min(other.opened_from_ns),
        };
        self.opened_to_ns = self.opened_to_ns.max(other.opened_to_ns);
    }
}

impl Member {
    fn start() -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(Error::failed)?;
        let mut child = Command::new(program)
            .arg(CLIENT_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Error::failed(format!("cannot start a client process: {error}")))?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().ok_or_else(|| Error::failed("a client process has no output"))?;
        let (teller, told) = sync_channel(MAX_TOLD);
        let read = move || read_answers(BufReader::new(answers), &teller);
        std::thread::Builder::new().name("client-answers".to_owned()).spawn(read).map_err(Error::failed)?;
        Ok(Self { child, orders, told })
    }
}

fn read_answers(answers: impl BufRead, teller: &SyncSender<Told>) {
    for line in answers.lines() {
        let Ok(line) = line else { return };
        let told =
            serde_json::from_str(&line).unwrap_or_else(|error| Told::Failed(format!("a client process cannot be understood: {error}")));
        if teller.send(told).is_err() {
            return;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.orders = None;
        // It would end by itself: this spares the wait for sockets to be closed one by one.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
