//! The rounds that most tasks of maintenance make.

use shared::Result;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// Between two lines of the log that say the same of a task.
const SAID_AGAIN_AFTER: Duration = Duration::from_mins(10);

/// When a task makes its rounds, and how they go. The log hears of the first that fails and of the first that succeeds again, and now and
/// then of what lasts: an outage is no flood of lines.
pub(super) struct Rounds {
    task: &'static str,
    ticks: Interval,
    /// When the log was told that rounds fail, while they do.
    said_at: Option<Instant>,
}

impl Rounds {
    pub(super) fn every(task: &'static str, every: Duration) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { task, ticks, said_at: None }
    }

    /// Waits for the next round: the first is due at once.
    pub(super) async fn begin(&mut self) {
        self.ticks.tick().await;
    }

    /// Takes note of how a round went.
    pub(super) fn end(&mut self, result: Result<()>) {
        let task = self.task;
        match result {
            Ok(()) => {
                if self.said_at.take().is_some() {
                    tracing::info!(task, "maintenance goes well again");
                }
            }
            Err(error) => {
                if self.said_at.is_none_or(|at| at.elapsed() >= SAID_AGAIN_AFTER) {
                    tracing::warn!(task, %error, "maintenance fails, and is tried again each round");
                    self.said_at = Some(Instant::now());
                }
            }
        }
    }
}
