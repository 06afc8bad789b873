//! What the sockets of a client process share: the plan, ready-made frames, counts, the task under way.

use super::super::causes;
use super::super::orders::{Plan, State};
use super::clock::now_ns;
use super::echo::EchoRun;
use super::fan_out::FanOutRun;
use super::scanner::{Delivery, Scanner, Verdict};
use super::script::Script;
use super::slot::Loss;

/// Buffers kept for frames that come in pieces; as many may be in pieces at once without a further allocation.
const MAX_SPARE_BUFFERS: usize = 64;
/// A buffer larger than this is not kept: one large recovery must not stay in memory.
const MAX_SPARE_BYTES: usize = 256 * 1024;
/// A run meets a new epoch when Redis restarts or fails over.
const MAX_EPOCHS: usize = 4_096;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) script: Script,
    pub(super) scanner: Scanner,
    pub(super) tally: State,
    /// Epochs seen, by the number that ledgers know them by.
    pub(super) epochs: Vec<String>,
    pub(super) echo: Option<EchoRun>,
    pub(super) fan_out: Option<FanOutRun>,
    /// The clock when the bytes in hand were read.
    pub(super) now_ns: u64,
    spare: Vec<Vec<u8>>,
}

impl Plan {
    pub(super) fn token_of(&self, number: u32) -> Option<&str> {
        let n_tokens = self.tokens.len().max(1);
        self.tokens.get(number as usize % n_tokens).map(String::as_str)
    }
}

impl Shared {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            script: Script::new(&plan),
            plan,
            scanner: Scanner::new(),
            tally: State::default(),
            epochs: Vec::new(),
            echo: None,
            fan_out: None,
            now_ns: now_ns(),
            spare: Vec::new(),
        }
    }

    pub(super) fn look_at_clock(&mut self) -> u64 {
        self.now_ns = now_ns();
        self.now_ns
    }

    /// The number that stands for `epoch`.
    pub(super) fn epoch(&mut self, epoch: &str) -> u16 {
        let known = self.epochs.iter().position(|known| known == epoch);
        let at = known.unwrap_or_else(|| {
            if self.epochs.len() < MAX_EPOCHS {
                self.epochs.push(epoch.to_owned());
            }
            self.epochs.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    pub(super) fn spare_buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        let is_worth_keeping = (1..=MAX_SPARE_BYTES).contains(&buffer.capacity());
        if is_worth_keeping && self.spare.len() < MAX_SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    pub(super) fn delivered(&mut self, channel: usize, delivery: Delivery) {
        if let Some(fan_out) = &mut self.fan_out {
            fan_out.delivered(channel, delivery, self.now_ns);
        }
    }

    /// A publication that came by recovery: it tells nothing of latency.
    pub(super) fn recovered(&mut self, channel: usize, publisher: u32) {
        if let Some(fan_out) = &mut self.fan_out {
            fan_out.arrived(channel, publisher, self.now_ns);
        }
    }

    /// The reply to a publish command.
    pub(super) fn answered(&mut self, channel: usize, verdict: Verdict) {
        if let Some(fan_out) = &mut self.fan_out {
            let outcome = match verdict {
                Verdict::Ok => Ok(()),
                Verdict::Error { code } => Err(format!("error {code}")),
            };
            fan_out.answered(channel, outcome);
        }
    }

    /// Notes why a connection is over.
    pub(super) fn note(&mut self, loss: &Loss) {
        let cause = match loss {
            Loss::Closed(code) => {
                *self.tally.closes.entry(*code).or_default() += 1;
                format!("closed with {code}")
            }
            Loss::Broken(reason) | Loss::Refused(reason) => reason.clone(),
        };
        causes::note(&mut self.tally.causes, cause);
    }
}
