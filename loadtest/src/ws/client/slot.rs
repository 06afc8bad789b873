//! One socket of the load: from the TCP connection over the upgrade and the greeting to deliveries. It outlives its
//! connections, so that its ledger does.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::super::orders::Dialect;
use super::ledger::{Ledger, Way};
use super::scanner::{Line, Verdict};
use super::script::{self, CONNECT_ID, ECHO_ID, PUBLISH_ID, Position, SUBSCRIBE_ID, SubscribeReply};
use super::shared::Shared;
use super::wire::{self, Opcode, Upgrade};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not connected.
    Idle,
    Connecting,
    Upgrading,
    /// Connect and subscribe are sent.
    Greeting,
    Ready,
    /// It will not be tried again.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reader,
    /// Reads nothing once it is subscribed.
    Stuck,
    /// Was stuck, and reads what is left, to see how the server has parted from it.
    Roused,
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loss {
    /// A close frame.
    Closed(u16),
    Broken(String),
    /// Refused in a way that another attempt would not change.
    Refused(String),
}

#[derive(Debug)]
pub(super) struct Slot {
    /// Number over all client processes.
    pub(super) number: u32,
    pub(super) channel: usize,
    pub(super) target: usize,
    pub(super) kind: Kind,
    pub(super) stage: Stage,
    pub(super) ledger: Ledger,
    /// When the present stage must be over, or when an idle one may begin.
    pub(super) due_ns: u64,
    /// Publish commands without a reply.
    pub(super) in_flight: u32,
    /// When the echo under way was sent; 0 is none.
    pub(super) echo_sent_ns: u64,
    /// It was subscribed at some time.
    pub(super) was_ready: bool,
    /// It holds one of the places for connections being made.
    pub(super) is_connecting: bool,
    /// A stuck one: when the server's end of the stream was seen, and the close code in what was left to read.
    pub(super) ended_ns: Option<u64>,
    pub(super) end_code: Option<u16>,
    stream: Option<TcpStream>,
    /// The beginning of a frame whose rest has not come.
    pending: Vec<u8>,
    /// What the kernel has not taken yet.
    out: Vec<u8>,
}

impl Slot {
    pub(super) fn new(number: u32, kind: Kind, n_channels: usize, n_targets: usize) -> Self {
        let number_idx = number as usize;
        Self {
            number,
            channel: number_idx % n_channels.max(1),
            // Each channel has subscribers on every target.
            target: number_idx / n_channels.max(1) % n_targets,
            kind,
            stage: Stage::Idle,
            ledger: Ledger::default(),
            due_ns: 0,
            in_flight: 0,
            echo_sent_ns: 0,
            was_ready: false,
            is_connecting: false,
            ended_ns: None,
            end_code: None,
            stream: None,
            pending: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Begins with a stream whose connection is being made.
    pub(super) fn begin(&mut self, mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        self.stage = Stage::Connecting;
        Ok(())
    }

    /// Lets go of the connection; the kernel forgets its registration with it.
    pub(super) fn let_go(&mut self, shared: &mut Shared) {
        self.stream = None;
        shared.give_back(std::mem::take(&mut self.pending));
        self.out = Vec::new();
        self.in_flight = 0;
        self.echo_sent_ns = 0;
        self.stage = Stage::Idle;
    }

    pub(super) fn is_reading(&self) -> bool {
        self.kind != Kind::Stuck || self.stage != Stage::Ready
    }

    pub(super) fn on_writable(&mut self, shared: &Shared) -> Result<(), Loss> {
        if self.stage == Stage::Connecting {
            let Some(stream) = &self.stream else { return Ok(()) };
            if let Some(error) = stream.take_error().map_err(broken)? {
                return Err(Loss::Broken(format!("cannot connect: {error}")));
            }
            if stream.peer_addr().is_err() {
                // Woken early: the connection is still being made.
                return Ok(());
            }
            self.stage = Stage::Upgrading;
            self.out.extend_from_slice(&shared.script.upgrades[self.target]);
        }
        self.flush()
    }

    /// Reads all there is; with `to_the_end` until the server's end of the stream.
    pub(super) fn on_readable(&mut self, scratch: &mut [u8], shared: &mut Shared, to_the_end: bool) -> Result<(), Loss> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            let n_read = match stream.read(scratch) {
                Ok(0) => return Err(Loss::Broken("the server closed without a close frame".to_owned())),
                Ok(n_read) => n_read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            shared.look_at_clock();
            self.take(&scratch[..n_read], shared)?;
            self.flush()?;
            // Less than asked for: the socket is empty, and the next byte wakes us again.
            if (n_read < scratch.len() && !to_the_end) || !self.is_reading() {
                return Ok(());
            }
        }
    }

    pub(super) fn send(&mut self, frame: &[u8]) -> Result<(), Loss> {
        self.out.extend_from_slice(frame);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Loss> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let mut n_sent = 0;
        while n_sent < self.out.len() {
            match stream.write(&self.out[n_sent..]) {
                Ok(n_written) => n_sent += n_written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        match n_sent == self.out.len() {
            // Gives the memory back: most sockets send a greeting, and then a pong each half minute.
            true => self.out = Vec::new(),
            false => drop(self.out.drain(..n_sent)),
        }
        Ok(())
    }

    /// Takes what was read, in any pieces.
    fn take(&mut self, input: &[u8], shared: &mut Shared) -> Result<(), Loss> {
        let mut kept = std::mem::take(&mut self.pending);
        let bytes = match kept.is_empty() {
            true => input,
            false => {
                kept.extend_from_slice(input);
                &kept
            }
        };
        let mut at = 0;
        if self.stage == Stage::Upgrading {
            match wire::read_upgrade(bytes).map_err(malformed)? {
                Upgrade::Done { head_len } => at = head_len,
                Upgrade::Refused { status } => return Err(Loss::Broken(format!("the upgrade was answered {status}"))),
                Upgrade::Awaited => {
                    self.pending = if kept.is_empty() { input.to_vec() } else { kept };
                    return Ok(());
                }
            }
            self.greet(shared);
        }
        while let Some(frame) = wire::parse(&bytes[at..]).map_err(malformed)? {
            at += frame.len;
            match frame.opcode {
                Opcode::Text => self.on_text(frame.payload, shared)?,
                Opcode::Ping => wire::write(&mut self.out, Opcode::Pong, frame.payload),
                Opcode::Close => return Err(Loss::Closed(wire::close_code(frame.payload))),
                Opcode::Binary | Opcode::Pong => {}
            }
        }
        if at == bytes.len() {
            shared.give_back(kept);
        } else if kept.is_empty() {
            let mut rest = shared.spare_buffer();
            rest.extend_from_slice(&input[at..]);
            self.pending = rest;
        } else {
            kept.drain(..at);
            self.pending = kept;
        }
        Ok(())
    }

    fn greet(&mut self, shared: &mut Shared) {
        match shared.plan.dialect {
            Dialect::Bare => {
                let epoch = shared.epoch("");
                self.ledger.begin(0, epoch);
                self.stage = Stage::Ready;
            }
            Dialect::Protocol => {
                self.stage = Stage::Greeting;
                let channel = shared.plan.channels.get(self.channel).map(String::as_str);
                let text = script::greeting(shared.plan.token_of(self.number), channel, self.position(shared));
                wire::write(&mut self.out, Opcode::Text, text.as_bytes());
            }
        }
    }

    fn position<'a>(&self, shared: &'a Shared) -> Option<Position<'a>> {
        let (offset, epoch) = self.ledger.position()?;
        Some(Position { offset, epoch: &shared.epochs[usize::from(epoch)] })
    }

    fn on_text(&mut self, text: &[u8], shared: &mut Shared) -> Result<(), Loss> {
        let mut rest = text;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            self.on_line(&rest[..end], shared)?;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        Ok(())
    }

    fn on_line(&mut self, line: &[u8], shared: &mut Shared) -> Result<(), Loss> {
        if self.echo_sent_ns != 0 && shared.plan.dialect == Dialect::Bare {
            return self.on_echo(Verdict::Ok, shared);
        }
        match shared.scanner.read(line) {
            Line::Publication(delivery) => {
                match delivery.offset {
                    0 => self.ledger.take_unnumbered(),
                    offset => self.ledger.take(offset, Way::Push),
                }
                // What a stuck reader finds in the end is late by its own fault.
                if self.kind == Kind::Reader {
                    shared.delivered(self.channel, delivery);
                }
                Ok(())
            }
            Line::Ping => {
                shared.tally.heartbeats += 1;
                self.out.extend_from_slice(&shared.script.pong);
                Ok(())
            }
            Line::Reply { id: CONNECT_ID, verdict: Verdict::Error { code } } => Err(Loss::Refused(format!("connect: error {code}"))),
            Line::Reply { id: CONNECT_ID, verdict: Verdict::Ok } if shared.plan.channels.is_empty() => {
                self.stage = Stage::Ready;
                Ok(())
            }
            Line::Reply { id: SUBSCRIBE_ID, verdict } => self.on_subscribed(verdict, line, shared),
            Line::Reply { id: ECHO_ID, verdict } => self.on_echo(verdict, shared),
            Line::Reply { id: PUBLISH_ID, verdict } => {
                self.in_flight = self.in_flight.saturating_sub(1);
                shared.answered(self.channel, verdict);
                Ok(())
            }
            Line::Unsubscribed { code } => self.on_unsubscribed(code, shared),
            Line::Reply { .. } | Line::Other => Ok(()),
        }
    }

    fn on_subscribed(&mut self, verdict: Verdict, line: &[u8], shared: &mut Shared) -> Result<(), Loss> {
        if let Verdict::Error { code } = verdict {
            let reason = format!("subscribe: error {code}");
            // A subscription that is to go on is tried again; the first must succeed.
            return Err(if self.ledger.position().is_some() { Loss::Broken(reason) } else { Loss::Refused(reason) });
        }
        let reply: SubscribeReply = serde_json::from_slice(line).map_err(|error| Loss::Refused(format!("subscribe: {error}")))?;
        let subscribed = reply.subscribe;
        let epoch = shared.epoch(&subscribed.epoch);
        match self.ledger.position() {
            None => self.ledger.begin(subscribed.offset, epoch),
            Some(_) if subscribed.recovered => {
                self.ledger.note_recovery();
                for publication in &subscribed.publications {
                    self.ledger.take(publication.offset, Way::Recovery);
                    shared.recovered(self.channel, publication.data.p);
                }
            }
            Some(_) => self.ledger.announce_gap(subscribed.offset, epoch),
        }
        self.stage = Stage::Ready;
        Ok(())
    }

    fn on_unsubscribed(&mut self, code: u16, shared: &mut Shared) -> Result<(), Loss> {
        *shared.tally.closes.entry(code).or_default() += 1;
        if code < 2500 {
            return Err(Loss::Refused(format!("unsubscribed with {code}")));
        }
        self.ledger.note_insufficient_state();
        self.stage = Stage::Greeting;
        let text = script::subscribe(&shared.plan.channels[self.channel], self.position(shared));
        wire::write(&mut self.out, Opcode::Text, text.as_bytes());
        Ok(())
    }

    fn on_echo(&mut self, verdict: Verdict, shared: &mut Shared) -> Result<(), Loss> {
        let sent_ns = std::mem::take(&mut self.echo_sent_ns);
        let now_ns = shared.now_ns;
        let Some(echo) = &mut shared.echo else { return Ok(()) };
        if echo.answered(sent_ns, now_ns, verdict) {
            self.echo_sent_ns = now_ns;
            self.out.extend_from_slice(&shared.script.echo);
        }
        Ok(())
    }
}

fn broken(error: io::Error) -> Loss {
    Loss::Broken(format!("the connection broke: {error}"))
}

fn malformed(error: wire::Malformed) -> Loss {
    Loss::Broken(error.to_string())
}
