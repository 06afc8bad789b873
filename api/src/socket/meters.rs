//! What a hub counts. Counters are looked up once; what changes with every frame is counted plainly and told once per tick.

use super::protocol::command::Request;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use shared::telemetry::metrics::{
    WS_BYTES_IN, WS_BYTES_OUT, WS_CLOSED, WS_COMMANDS, WS_CONNECTIONS, WS_FANOUT_LAG, WS_FRAMES_SENT, WS_OUTBOX_BYTES, WS_OUTBOX_MEMORY,
    WS_SUBSCRIPTIONS,
};
use std::{cell::Cell, fmt, time::Duration};

pub(super) struct Meters {
    connections: Gauge,
    commands: Vec<(&'static str, Counter)>,
    frames_sent: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    subscriptions: Gauge,
    outbox_bytes: Gauge,
    outbox_memory: Gauge,
    fanout_lag: Histogram,
    n_frames_sent: Cell<u64>,
    n_bytes_in: Cell<u64>,
    n_bytes_out: Cell<u64>,
    n_outbox_bytes: Cell<usize>,
    n_subscriptions: Cell<u64>,
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}

impl Meters {
    /// Those of the thread called `worker`.
    pub(super) fn new(worker: String) -> Self {
        Self {
            connections: gauge!(WS_CONNECTIONS, "worker" => worker.clone()),
            subscriptions: gauge!(WS_SUBSCRIPTIONS, "worker" => worker.clone()),
            outbox_bytes: gauge!(WS_OUTBOX_BYTES, "worker" => worker.clone()),
            outbox_memory: gauge!(WS_OUTBOX_MEMORY, "worker" => worker),
            fanout_lag: histogram!(WS_FANOUT_LAG),
            commands: Request::METHODS.iter().map(|method| (*method, counter!(WS_COMMANDS, "method" => *method))).collect(),
            frames_sent: counter!(WS_FRAMES_SENT),
            bytes_in: counter!(WS_BYTES_IN),
            bytes_out: counter!(WS_BYTES_OUT),
            n_frames_sent: Cell::new(0),
            n_bytes_in: Cell::new(0),
            n_bytes_out: Cell::new(0),
            n_outbox_bytes: Cell::new(0),
            n_subscriptions: Cell::new(0),
        }
    }

    pub(super) fn command(&self, method: &'static str) {
        if let Some((_, counter)) = self.commands.iter().find(|(name, _)| std::ptr::eq(*name, method)) {
            counter.increment(1);
        }
    }

    pub(super) fn frame_queued(&self, bytes: usize) {
        self.n_outbox_bytes.set(self.n_outbox_bytes.get() + bytes);
    }

    /// So many bytes went out, and with them the ends of so many frames.
    pub(super) fn frames_sent(&self, frames: u64, bytes: usize) {
        self.n_frames_sent.set(self.n_frames_sent.get() + frames);
        self.n_bytes_out.set(self.n_bytes_out.get() + bytes as u64);
        self.frames_dropped(bytes);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.n_bytes_in.set(self.n_bytes_in.get() + bytes as u64);
    }

    /// Frames that waited and are not sent.
    pub(super) fn frames_dropped(&self, bytes: usize) {
        self.n_outbox_bytes.set(self.n_outbox_bytes.get() - bytes);
    }

    /// How long a publication took to this thread; told for some of them, not for all.
    pub(super) fn fanned_out(&self, after: Duration) {
        self.fanout_lag.record(after);
    }

    pub(super) fn subscribed(&self) {
        self.n_subscriptions.set(self.n_subscriptions.get() + 1);
    }

    pub(super) fn unsubscribed(&self) {
        self.n_subscriptions.set(self.n_subscriptions.get() - 1);
    }

    pub(super) fn closed(code: u16) {
        counter!(WS_CLOSED, "code" => code.to_string()).increment(1);
    }

    /// Tells what was counted since the last tick; `n_memory_bytes` is what all that waits takes.
    pub(super) fn observe(&self, n_connections: usize, n_memory_bytes: usize) {
        self.connections.set(n_connections as f64);
        self.subscriptions.set(self.n_subscriptions.get() as f64);
        self.outbox_bytes.set(self.n_outbox_bytes.get() as f64);
        self.outbox_memory.set(n_memory_bytes as f64);
        self.frames_sent.increment(self.n_frames_sent.take());
        self.bytes_in.increment(self.n_bytes_in.take());
        self.bytes_out.increment(self.n_bytes_out.take());
    }
}
