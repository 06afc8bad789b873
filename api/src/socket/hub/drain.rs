//! Closing the sockets of a thread before its process stops: a few at a time, so that those who come back elsewhere do not
//! come as one crowd.

use super::Hub;
use crate::socket::protocol::close;
use rand::seq::SliceRandom;
use std::{rc::Rc, time::Duration};
use tokio::time::sleep;

/// Between two batches, give or take half of it.
const BATCH_EVERY: Duration = Duration::from_millis(100);

impl Hub {
    /// Closes every connection over the time of `window`. Whoever is let in meanwhile is closed at the end.
    pub(super) async fn drain(self: Rc<Self>, window: Duration) {
        let n_batches = usize::try_from(window.as_millis() / BATCH_EVERY.as_millis()).unwrap_or(usize::MAX).max(1);
        let mut open: Vec<_> = self.connections.borrow().iter().map(Rc::clone).collect();
        open.shuffle(&mut rand::rng());
        let batch_len = open.len().div_ceil(n_batches).max(1);
        for batch in open.chunks(batch_len) {
            batch.iter().for_each(|connection| connection.close(close::SHUTDOWN));
            if n_batches > 1 {
                sleep(BATCH_EVERY.mul_f64(rand::random_range(0.5..1.5))).await;
            }
        }
        let late: Vec<_> = self.connections.borrow().iter().map(Rc::clone).collect();
        late.iter().for_each(|connection| connection.close(close::SHUTDOWN));
    }
}
