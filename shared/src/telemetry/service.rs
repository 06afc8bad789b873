//! What the service manager is told: that the process is ready, that it stops, and that it lives. Where there is none, nothing is.

use sd_notify::NotifyState;
use std::{future::pending, time::Duration};
use tokio::time::interval;

/// So many signs of life in the time after which a process without one is taken for dead.
const SIGNS: u32 = 3;

pub fn ready() {
    tell(NotifyState::Ready);
}

pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Gives signs of life for as long as it is polled, if the service manager wants them.
pub async fn keep_alive() {
    let Some(patience) = sd_notify::watchdog_enabled() else { return pending().await };
    let mut ticks = interval((patience / SIGNS).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
