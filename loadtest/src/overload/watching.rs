//! What others meet while the load runs: probes and a read, each on a connection and a thread of its own, at even distances.
//!
//! Latency counts from when a request was due, so that a stall of the server is seen by each request that was due in it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::Request;
use crate::control::Control;
use crate::error::Error;
use crate::generator::new_histogram;

/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(25);
/// Between two reads.
const READ_EVERY: Duration = Duration::from_millis(50);

/// What was met since it was last asked.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) took: Histogram<u64>,
    /// Answers that were not 200, or none.
    pub(crate) n_failed: u64,
}

impl Met {
    fn new() -> Self {
        Self { took: new_histogram(), n_failed: 0 }
    }
}

/// What the read met last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) answered: Instant,
    pub(crate) took: Duration,
    pub(crate) is_ok: bool,
}

#[derive(Debug)]
struct Watcher {
    met: Arc<Mutex<Met>>,
    last: Arc<Mutex<Option<Reading>>>,
    thread: JoinHandle<()>,
}

/// The watchers; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Watchers {
    is_over: Arc<AtomicBool>,
    health: Watcher,
    readiness: Watcher,
    reading: Watcher,
}

impl Watchers {
    pub(crate) fn start(peer: SocketAddr, authority: &str, read: &Request) -> Result<Self, Error> {
        let is_over = Arc::new(AtomicBool::new(false));
        let start = |request: Request, every| Watcher::start(Control::new(peer, authority)?, request, every, Arc::clone(&is_over));
        Ok(Self {
            health: start(Request::get("/healthz"), PROBE_EVERY)?,
            readiness: start(Request::get("/readyz"), PROBE_EVERY)?,
            reading: start(read.clone(), READ_EVERY)?,
            is_over,
        })
    }

    /// What the probes met since this was last called: of liveness, and of readiness.
    pub(crate) fn probes(&self) -> (Met, Met) {
        (self.health.take(), self.readiness.take())
    }

    /// What the read met last.
    pub(crate) fn reading(&self) -> Option<Reading> {
        *self.reading.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn finish(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for watcher in [self.health, self.readiness, self.reading] {
            // One that panicked has said so.
            let _ = watcher.thread.join();
        }
    }
}

impl Watcher {
    fn start(mut control: Control, request: Request, every: Duration, is_over: Arc<AtomicBool>) -> Result<Self, Error> {
        let (met, last) = (Arc::new(Mutex::new(Met::new())), Arc::new(Mutex::new(None)));
        let (meeting, answered) = (Arc::clone(&met), Arc::clone(&last));
        let watch = move || {
            let mut due = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                let is_ok = control.fetch(&request).is_ok_and(|(status, _)| status == 200);
                let reading = Reading { answered: Instant::now(), took: due.elapsed(), is_ok };
                let mut met = meeting.lock().unwrap_or_else(PoisonError::into_inner);
                met.took.saturating_record(u64::try_from(reading.took.as_nanos()).unwrap_or(u64::MAX));
                met.n_failed += u64::from(!is_ok);
                drop(met);
                *answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
                due += every;
                control.pause(due.saturating_duration_since(Instant::now()));
            }
        };
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(watch).map_err(Error::failed)?;
        Ok(Self { met, last, thread })
    }

    fn take(&self) -> Met {
        std::mem::replace(&mut *self.met.lock().unwrap_or_else(PoisonError::into_inner), Met::new())
    }
}
