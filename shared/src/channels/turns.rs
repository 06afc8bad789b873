//! Reading is done in turns: what everybody who comes back after an outage asks for together would hold up what all the others ask of
//! Redis, until that takes longer than anyone waits. And nobody has all of the turns: one user's crowd waits behind itself.

use crate::{
    Code, Error, Result,
    shares::{PARTS, may_be_taken},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// Large answers: what is in flight together comes within the time that Redis has to answer, over a slow network too.
const LARGE_AT_ONCE: usize = 4;
/// Small ones: Redis is done with all of them within milliseconds, and over a network it is never idle between them.
const SMALL_AT_ONCE: usize = 64;
/// Shorter than clients wait for an answer.
const WITHIN: Duration = Duration::from_secs(3);

/// For whom something is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reader {
    /// `""` are all who connected without a name, together.
    User(Arc<str>),
    /// Another backend, by the key it shares with us.
    Backend,
    /// The process itself.
    Process,
}

/// Whose turn it is to read of history.
#[derive(Debug)]
pub struct HistoryTurns {
    pub(super) small: Turns,
    pub(super) large: Turns,
}

impl Default for HistoryTurns {
    fn default() -> Self {
        let turns = |n_turns| Turns::new(n_turns, "Too much history is being read.");
        Self { small: turns(SMALL_AT_ONCE), large: turns(LARGE_AT_ONCE) }
    }
}

/// So many at once in a process, of which the last quarter is for readers who have less than a quarter. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    n_turns: usize,
    too_many: &'static str,
    queue: Mutex<Queue>,
}

/// Nobody waits for whom there would be a turn.
#[derive(Debug, Default)]
struct Queue {
    n_taken: usize,
    /// Those who have a turn or wait for one.
    readers: HashMap<Reader, OfReader>,
    /// Those who wait, in the order in which they are next.
    order: VecDeque<Reader>,
}

#[derive(Debug, Default)]
struct OfReader {
    n_taken: usize,
    /// It has a place in the order while somebody is among them.
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    of: Turns,
    reader: Reader,
}

/// A reader who asks for something, and until when it waits for the turns that this takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) reader: &'a Reader,
    pub(super) until: Instant,
}

impl<'a> Asker<'a> {
    pub(super) fn now(reader: &'a Reader) -> Self {
        Self { reader, until: Instant::now() + WITHIN }
    }
}

impl Turns {
    /// Says `too_many` to those whose turn does not come.
    pub(super) fn new(n_turns: usize, too_many: &'static str) -> Self {
        Self(Arc::new(Inner { n_turns, too_many, queue: Mutex::default() }))
    }

    /// As many as are read at once where each may be large.
    pub(super) fn of_large(too_many: &'static str) -> Self {
        Self::new(LARGE_AT_ONCE, too_many)
    }

    /// Readers come one after the other, whoever has asked how often; whose turn does not come in time may ask again.
    pub(super) async fn take(&self, Asker { reader, until }: Asker<'_>) -> Result<Turn> {
        let coming = {
            let mut queue = self.lock();
            if self.fits(&queue, reader) {
                queue.give(reader);
                return Ok(self.turn(reader.clone()));
            }
            queue.wait(reader)
        };
        match timeout_at(until, coming).await {
            Ok(turn) => turn.map_err(Error::internal),
            Err(_) => Err(self.refusal()),
        }
    }

    pub(super) fn refusal(&self) -> Error {
        Error::new(Code::Overloaded, self.0.too_many).retry_after(Duration::from_secs(1))
    }

    fn fits(&self, queue: &Queue, reader: &Reader) -> bool {
        let of_reader = queue.readers.get(reader).map_or(0, |of| of.n_taken);
        may_be_taken(self.0.n_turns, self.0.n_turns / PARTS, queue.n_taken + 1, of_reader + 1)
    }

    fn turn(&self, reader: Reader) -> Turn {
        Turn { of: self.clone(), reader }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a turn to the first in the order for whom there is one.
    fn next(&self, queue: &mut Queue) -> Option<(Reader, oneshot::Sender<Turn>)> {
        for _ in 0..queue.order.len() {
            if queue.n_taken == self.0.n_turns {
                return None;
            }
            let reader = queue.order.pop_front()?;
            if !queue.is_waiting(&reader) {
                continue;
            }
            if !self.fits(queue, &reader) {
                queue.order.push_back(reader);
                continue;
            }
            let of = queue.readers.get_mut(&reader)?;
            let waiting = of.waiting.pop_front()?;
            if !of.waiting.is_empty() {
                queue.order.push_back(reader.clone());
            }
            queue.give(&reader);
            return Some((reader, waiting));
        }
        None
    }
}

impl Queue {
    fn give(&mut self, reader: &Reader) {
        self.n_taken += 1;
        self.readers.entry(reader.clone()).or_default().n_taken += 1;
    }

    fn give_back(&mut self, reader: &Reader) {
        self.n_taken -= 1;
        if let Some(of) = self.readers.get_mut(reader) {
            of.n_taken -= 1;
        }
        self.forget_idle(reader);
    }

    fn wait(&mut self, reader: &Reader) -> oneshot::Receiver<Turn> {
        let (waiting, coming) = oneshot::channel();
        let of = self.readers.entry(reader.clone()).or_default();
        if of.waiting.is_empty() {
            self.order.push_back(reader.clone());
        }
        of.waiting.push_back(waiting);
        coming
    }

    /// Whether somebody waits who has not left.
    fn is_waiting(&mut self, reader: &Reader) -> bool {
        let Some(of) = self.readers.get_mut(reader) else { return false };
        while of.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            of.waiting.pop_front();
        }
        let is_waiting = !of.waiting.is_empty();
        self.forget_idle(reader);
        is_waiting
    }

    fn forget_idle(&mut self, reader: &Reader) {
        if self.readers.get(reader).is_some_and(|of| of.n_taken == 0 && of.waiting.is_empty()) {
            self.readers.remove(reader);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut next = {
            let mut queue = self.of.lock();
            queue.give_back(&self.reader);
            self.of.next(&mut queue)
        };
        while let Some((reader, waiting)) = next {
            // Whoever has left meanwhile gives it back by that.
            drop(waiting.send(self.of.turn(reader)));
            next = self.of.next(&mut self.of.lock());
        }
    }
}

#[cfg(test)]
impl Turns {
    pub(super) fn n_taken(&self) -> usize {
        self.lock().n_taken
    }
}

#[cfg(test)]
mod tests;
