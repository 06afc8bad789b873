//! The end of all sockets of a process, before its HTTP server stops: an open socket would hold that up.

use super::Sockets;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Beyond the window: for the last to take their close frame, and to be taken out of presence.
const LAST_GOODBYE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Something that has to be done before the process may end, until dropped.
#[derive(Debug)]
pub(super) struct Farewell(Arc<AtomicUsize>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Sockets {
    pub(super) fn farewell(&self) -> Farewell {
        self.0.n_farewells.fetch_add(1, Ordering::AcqRel);
        Farewell(Arc::clone(&self.0.n_farewells))
    }

    /// Closes all sockets over the time of `window`, in batches, and returns when they are gone and nobody sees them any
    /// more, or it takes too long. New ones have to be refused already.
    pub async fn drain(&self, window: Duration) {
        let n_open = self.n_open();
        if n_open > 0 {
            tracing::info!(n_open, window_s = window.as_secs(), "closing sockets");
        }
        let deadline = Instant::now() + window + LAST_GOODBYE;
        self.fanout().drain(window).await;
        while (self.n_open() > 0 || self.0.n_farewells.load(Ordering::Acquire) > 0) && Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
        }
    }
}
