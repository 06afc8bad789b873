//! What is told over a connection, and how long its client has to take that. The HTTP server by itself would wait for ever, and go on to read
//! requests and to keep their answers for who reads none of them.

use actix_web::rt::time::{Sleep, sleep_until};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::time::Instant;

/// Between looks at a client that has not taken all.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a client has to take all that is there for it, while the process keeps more than it should.
const HURRY: Duration = Duration::from_secs(5);
/// Who has no more than this waiting need not hurry: it is a piece of what a stream sends, or little.
const LITTLE_BYTES: usize = 64 << 10;

/// The bytes of answers that wait for clients to take them, of a whole process.
#[derive(Debug)]
pub(super) struct Unsent {
    bytes: AtomicUsize,
    max: usize,
}

impl Unsent {
    pub(super) fn up_to(max: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), max })
    }

    fn is_too_much(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.max
    }
}

/// How the client of a connection takes what it is told.
#[derive(Debug)]
pub(super) struct Telling {
    within: Duration,
    hurry: Duration,
    look_every: Duration,
    unsent: Arc<Unsent>,
    waiting: Option<Waiting>,
    /// Who would read on.
    reader: Option<Waker>,
}

/// The kernel takes no more for now.
#[derive(Debug)]
struct Waiting {
    n_bytes: usize,
    since: Instant,
    /// When something was taken last.
    moved: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Telling {
    pub(super) fn new(within: Duration, unsent: Arc<Unsent>) -> Self {
        Self { within, hurry: HURRY, look_every: LOOK_EVERY, unsent, waiting: None, reader: None }
    }

    /// Whether the next request may be read. Not before the client has taken what is there for it: its answers would pile up.
    pub(super) fn poll_taken(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.waiting.is_none() {
            return Poll::Ready(());
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What became of a write of `n_bytes`.
    pub(super) fn wrote(&mut self, n_bytes: usize, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match (&written, &mut self.waiting) {
            (Poll::Ready(Ok(n_written)), Some(waiting)) if *n_written < n_bytes => waiting.moved = Instant::now(),
            (Poll::Ready(_), Some(_)) => self.is_taken(),
            (Poll::Ready(_), None) => {}
            (Poll::Pending, _) => return self.wait(n_bytes, cx),
        }
        written
    }

    fn is_taken(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.unsent.bytes.fetch_sub(waiting.n_bytes, Ordering::Relaxed);
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Fails when the client has had its time.
    fn wait(&mut self, n_bytes: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        let look_at = |now: Instant, moved: Instant| (now + self.look_every).min(moved + self.within);
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            n_bytes: 0,
            since: now,
            moved: now,
            alarm: Box::pin(sleep_until(look_at(now, now))),
        });
        self.unsent.bytes.fetch_add(n_bytes, Ordering::Relaxed);
        self.unsent.bytes.fetch_sub(waiting.n_bytes, Ordering::Relaxed);
        waiting.n_bytes = n_bytes;
        while waiting.alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let is_to_hurry = n_bytes > LITTLE_BYTES && self.unsent.is_too_much();
            if now >= waiting.moved + self.within || is_to_hurry && now >= waiting.since + self.hurry {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            waiting.alarm.as_mut().reset(look_at(now, waiting.moved));
        }
        Poll::Pending
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.is_taken();
    }
}

#[cfg(test)]
mod tests;
