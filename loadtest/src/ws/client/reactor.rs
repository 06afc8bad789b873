//! The loop of a client process: one thread, one poll, all its sockets.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::super::orders::{Order, Plan, State, Told};
use super::clock::{WakeUp, now_ns};
use super::connect;
use super::echo::EchoRun;
use super::publishers::Publishers;
use super::shared::Shared;
use super::slot::{Kind, Loss, Slot, Stage};
use crate::error::Error;
use crate::generator::SourceAddresses;

/// Tokens beyond those of sockets.
pub(super) const WAKER: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);
/// First token of publishers over HTTP.
pub(super) const HTTP_TOKENS: usize = 1 << 32;
const EVENTS_AT_ONCE: usize = 1_024;
/// One read of a socket; a socket with more is read again.
const SCRATCH_BYTES: usize = 128 * 1024;
/// How often deadlines and ends are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Before a lost socket comes back: spread out, as the clients of a restarted server should be.
const RECONNECT_AFTER_NS: u64 = 50_000_000;
/// What a server closes with that stops.
const SHUTDOWN: u16 = 3001;
const RECONNECT_SPREAD_NS: u64 = 200_000_000;

pub(super) struct Reactor {
    pub(super) poll: Poll,
    pub(super) slots: Vec<Slot>,
    pub(super) shared: Shared,
    pub(super) publishers: Publishers,
    timer: WakeUp,
    orders: Receiver<Order>,
    scratch: Box<[u8]>,
    sources: SourceAddresses,
    /// Sockets to connect as soon as there is a place.
    to_connect: VecDeque<usize>,
    n_connecting: u32,
    /// Sockets of the last `Open` that are neither ready nor failed; None when none was given or it is answered.
    n_awaited: Option<u32>,
    next_tick_ns: u64,
}

impl Reactor {
    pub(super) fn new(poll: Poll, plan: Plan, orders: Receiver<Order>) -> io::Result<Self> {
        let peer = plan.targets[0].peer;
        Ok(Self {
            timer: WakeUp::new(poll.registry(), TIMER)?,
            poll,
            slots: Vec::new(),
            sources: SourceAddresses::for_run(peer, plan.n_sockets_in_all, plan.run_idx),
            shared: Shared::new(plan),
            publishers: Publishers::default(),
            orders,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            to_connect: VecDeque::new(),
            n_connecting: 0,
            n_awaited: None,
            next_tick_ns: 0,
        })
    }

    /// Runs until the coordinator has no more orders.
    pub(super) fn run(&mut self) -> Result<(), Error> {
        let mut events = Events::with_capacity(EVENTS_AT_ONCE);
        loop {
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome.map_err(Error::failed)?,
            }
            for event in &events {
                match event.token() {
                    WAKER | TIMER => {}
                    Token(token) if token >= HTTP_TOKENS => self.on_http(token - HTTP_TOKENS, event),
                    Token(at) => self.on_socket(at, event),
                }
            }
            match self.orders.try_recv() {
                Ok(order) => self.obey(order)?,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            let now_ns = self.shared.look_at_clock();
            self.connect_some(now_ns);
            self.drive_echo(now_ns);
            self.publish(now_ns);
            if now_ns >= self.next_tick_ns {
                self.next_tick_ns = now_ns + TICK.as_nanos() as u64;
                self.look_around(now_ns)?;
            }
            self.set_timer()?;
        }
    }

    fn obey(&mut self, order: Order) -> Result<(), Error> {
        match order {
            Order::Begin(_) => return Err(Error::failed("told to begin twice")),
            Order::Open { n_sockets, n_stuck } => self.open(n_sockets, n_stuck),
            Order::Echo(order) => {
                self.shared.script.prepare_echo(&self.shared.plan.rpc_method, order.n_padding);
                self.shared.echo = Some(EchoRun::new(order));
            }
            Order::FanOut(order) => self.begin_fan_out(order)?,
            Order::EndFanOut => {
                if let Some(fan_out) = &mut self.shared.fan_out {
                    fan_out.order.window.end_ns = now_ns();
                }
            }
            Order::Report => {
                let state = self.state();
                tell(&Told::State(state))?;
            }
        }
        Ok(())
    }

    fn open(&mut self, n_sockets: u32, n_stuck: u32) {
        let (n_channels, n_targets) = (self.shared.plan.channels.len(), self.shared.plan.targets.len());
        self.slots.reserve_exact(n_sockets as usize);
        for idx in 0..n_sockets {
            let kind = if idx < n_stuck { Kind::Stuck } else { Kind::Reader };
            let number = self.shared.plan.first_number + self.slots.len() as u32;
            self.to_connect.push_back(self.slots.len());
            self.slots.push(Slot::new(number, kind, n_channels, n_targets));
        }
        self.shared.tally.opened_from_ns = now_ns();
        self.n_awaited = Some(n_sockets);
    }

    fn connect_some(&mut self, now_ns: u64) {
        for _ in 0..self.to_connect.len() {
            if self.n_connecting >= self.shared.plan.at_once {
                return;
            }
            let Some(at) = self.to_connect.pop_front() else { return };
            let slot = &mut self.slots[at];
            if slot.due_ns > now_ns {
                self.to_connect.push_back(at);
                continue;
            }
            slot.due_ns = now_ns + self.shared.plan.timeout_ns;
            slot.is_connecting = true;
            self.n_connecting += 1;
            let target = &self.shared.plan.targets[slot.target];
            let source = self.sources.of_connection(slot.number);
            let begun =
                connect::begin(target.peer, source, slot.kind).and_then(|stream| slot.begin(stream, self.poll.registry(), Token(at)));
            if let Err(error) = begun {
                slot.stage = Stage::Connecting;
                self.lose(at, &Loss::Broken(format!("cannot connect: {error}")));
            }
        }
    }

    fn on_socket(&mut self, at: usize, event: &Event) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        let before = slot.stage;
        let is_ending = event.is_read_closed() || event.is_error();
        let mut outcome = Ok(());
        if event.is_writable() || event.is_error() {
            outcome = slot.on_writable(&self.shared);
        }
        if outcome.is_ok() && !slot.is_reading() {
            if is_ending {
                slot.ended_ns.get_or_insert(now_ns());
            }
            return;
        }
        if outcome.is_ok() && (event.is_readable() || is_ending) {
            outcome = slot.on_readable(&mut self.scratch, &mut self.shared, is_ending);
        }
        self.follow(at, before, outcome);
    }

    /// Reads a socket to the end of its stream.
    pub(super) fn read_on(&mut self, at: usize) -> Result<(), Loss> {
        self.slots[at].on_readable(&mut self.scratch, &mut self.shared, true)
    }

    /// Keeps the counts after something happened to a socket.
    pub(super) fn follow(&mut self, at: usize, before: Stage, outcome: Result<(), Loss>) {
        if let Err(loss) = outcome {
            return self.lose(at, &loss);
        }
        let after = self.slots[at].stage;
        if before != after && after == Stage::Ready {
            let slot = &mut self.slots[at];
            let was_ready = std::mem::replace(&mut slot.was_ready, true);
            if std::mem::take(&mut slot.is_connecting) {
                self.n_connecting -= 1;
                self.shared.tally.reconnects += u64::from(was_ready);
            }
            if !was_ready {
                self.n_awaited = self.n_awaited.map(|n_awaited| n_awaited.saturating_sub(1));
            }
        }
    }

    /// A connection is over: it comes back, or does not, as the plan says.
    pub(super) fn lose(&mut self, at: usize, loss: &Loss) {
        self.shared.note(loss);
        let slot = &mut self.slots[at];
        if slot.stage == Stage::Ended {
            return;
        }
        if std::mem::take(&mut slot.is_connecting) {
            self.n_connecting -= 1;
        }
        if let Some(fan_out) = &mut self.shared.fan_out {
            fan_out.lost(slot.in_flight);
        }
        if let Some(echo) = self.shared.echo.as_mut().filter(|_| slot.echo_sent_ns != 0) {
            echo.forget_one();
        }
        if *loss == Loss::Closed(3010) {
            slot.ledger.note_insufficient_state();
        }
        if slot.kind == Kind::Roused {
            slot.ended_ns.get_or_insert(self.shared.now_ns);
            slot.end_code = match loss {
                Loss::Closed(code) => Some(*code),
                Loss::Broken(_) | Loss::Refused(_) => None,
            };
        }
        let was_subscribed = slot.stage == Stage::Ready;
        self.shared.tally.lost += u64::from(was_subscribed);
        slot.let_go(&mut self.shared);
        let is_final = match loss {
            Loss::Closed(code) => (3_500..4_000).contains(code),
            Loss::Refused(_) => true,
            Loss::Broken(_) => false,
        };
        let comes_back = self.shared.plan.reconnects && !is_final && slot.was_ready && slot.kind == Kind::Reader;
        if comes_back {
            let spread_ns = u64::from(slot.number).wrapping_mul(0x9e37_79b9) % RECONNECT_SPREAD_NS;
            slot.due_ns = self.shared.now_ns + RECONNECT_AFTER_NS + spread_ns;
            if matches!(loss, Loss::Broken(_) | Loss::Closed(SHUTDOWN)) {
                // It may be gone for good.
                slot.target = (slot.target + 1) % self.shared.plan.targets.len();
            }
            self.to_connect.push_back(at);
            return;
        }
        slot.stage = Stage::Ended;
        if !slot.was_ready {
            self.shared.tally.failed += 1;
            self.n_awaited = self.n_awaited.map(|n_awaited| n_awaited.saturating_sub(1));
        }
    }

    /// What needs no haste: deadlines, ends.
    fn look_around(&mut self, now_ns: u64) -> Result<(), Error> {
        if self.n_connecting > 0 {
            for at in 0..self.slots.len() {
                let slot = &self.slots[at];
                let is_late = slot.is_connecting && slot.due_ns <= now_ns;
                if is_late {
                    self.lose(at, &Loss::Broken(format!("no answer in time while {:?}", slot.stage)));
                }
            }
        }
        if self.n_awaited == Some(0) {
            self.n_awaited = None;
            self.shared.tally.opened_to_ns = now_ns;
            let state = self.state();
            tell(&Told::Opened(state))?;
        }
        if self.shared.echo.as_ref().is_some_and(|echo| echo.is_over(now_ns, self.shared.plan.timeout_ns)) {
            let state = self.state();
            if let Some(echo) = self.shared.echo.take() {
                tell(&Told::Echoed(Box::new(echo.result(state))))?;
            }
        }
        self.end_fan_out(now_ns)
    }

    pub(super) fn state(&self) -> State {
        let n_ready = self.slots.iter().filter(|slot| slot.stage == Stage::Ready).count();
        State { ready: u32::try_from(n_ready).unwrap_or(u32::MAX), ..self.shared.tally.clone() }
    }

    fn drive_echo(&mut self, now_ns: u64) {
        let Some(echo) = &mut self.shared.echo else { return };
        let n_due = echo.launch(now_ns) + echo.resume(now_ns);
        let mut n_left = n_due;
        for at in 0..self.slots.len() {
            if n_left == 0 {
                return;
            }
            let slot = &mut self.slots[at];
            if slot.stage != Stage::Ready || slot.echo_sent_ns != 0 || slot.kind != Kind::Reader {
                continue;
            }
            n_left -= 1;
            slot.echo_sent_ns = now_ns;
            if let Some(echo) = &mut self.shared.echo {
                echo.sent();
            }
            if let Err(loss) = slot.send(&self.shared.script.echo) {
                self.lose(at, &loss);
            }
        }
    }

    fn set_timer(&mut self) -> Result<(), Error> {
        let echo = self.shared.echo.as_ref().and_then(EchoRun::next_due_ns);
        let fan_out = self.shared.fan_out.as_ref().and_then(super::fan_out::FanOutRun::next_due_ns);
        match [echo, fan_out].into_iter().flatten().min() {
            Some(due_ns) => self.timer.at(due_ns).map_err(Error::failed),
            None => Ok(()),
        }
    }
}

/// One line to the coordinator.
pub(super) fn tell(told: &Told) -> Result<(), Error> {
    let mut line = serde_json::to_vec(told).map_err(Error::failed)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()?;
    Ok(())
}
