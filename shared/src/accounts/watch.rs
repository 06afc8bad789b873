//! Learning of revocations: from Redis as they happen, and from the rows every few seconds in case Redis or a message was lost.

use super::{
    Accounts,
    revocations::{Revocation, Revocations},
    store,
};
use crate::{Result, clock::unix_ms, telemetry::metrics::REVOCATIONS};
use futures_util::StreamExt;
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::time;
use tokio_util::sync::CancellationToken;

/// A poll reads the rows of so long ago, by the database's clock: longer than any transaction lasts, so that none is missed
/// that committed after a poll but began before it.
const LOOK_BACK: Duration = Duration::from_mins(2);

/// Between attempts to listen while Redis is away.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

impl Accounts {
    /// Reads the rows: all at first and after a gap, else those of the last two minutes.
    pub async fn poll_revocations(&self) -> Result<()> {
        let started = Instant::now();
        let look_back = self.polled.due();
        let rows = store::revocations::read(&self.ctx.pg, look_back).await?;
        for revocation in &rows {
            note(&self.revocations, revocation, "poll");
        }
        self.revocations.prune(unix_ms(self.ctx.clock.now()));
        self.revocations.set_complete();
        self.polled.done(started);
        Ok(())
    }

    pub(super) async fn poll_until(&self, stop: &CancellationToken) {
        loop {
            let period = Duration::from_millis(self.ctx.settings().revocation_poll_ms);
            tokio::select! {
                () = stop.cancelled() => return,
                () = time::sleep(period) => {}
            }
            if let Err(error) = self.poll_revocations().await {
                tracing::warn!(%error, "revocations cannot be polled");
            }
        }
    }

    pub(super) async fn listen_until(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.listen(stop).await {
                tracing::warn!(%error, "revocations are not heard; they are polled");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = time::sleep(RECONNECT_AFTER) => {}
            }
        }
    }

    async fn listen(&self, stop: &CancellationToken) -> Result<()> {
        let mut listener = self.ctx.redis.pubsub().await?;
        listener.subscribe(self.ctx.keys.revocations()).await?;
        // What was said before the subscription stood is in the rows.
        self.poll_revocations().await?;
        let mut messages = listener.into_on_message();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                message = messages.next() => match message {
                    Some(message) => self.hear(message.get_payload_bytes()),
                    None => return Ok(()),
                },
            }
        }
    }

    fn hear(&self, message: &[u8]) {
        match serde_json::from_slice::<Revocation>(message) {
            Ok(revocation) => note(&self.revocations, &revocation, "redis"),
            // A newer process may say what this one does not know; the poll would skip the row as well.
            Err(error) => tracing::warn!(%error, "a message about a revocation is not understood"),
        }
    }
}

fn note(revocations: &Revocations, revocation: &Revocation, source: &'static str) {
    if revocations.apply(revocation) {
        metrics::counter!(REVOCATIONS, "source" => source).increment(1);
    }
}

/// When the rows were last read.
#[derive(Debug, Default)]
pub(super) struct Polled(Mutex<Option<Instant>>);

impl Polled {
    /// How far to look back: `None` is everything, at first and when the last poll is so long ago that rows lie in between.
    fn due(&self) -> Option<Duration> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|last| last.elapsed() < LOOK_BACK / 2).map(|_| LOOK_BACK)
    }

    fn done(&self, started: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    }
}
