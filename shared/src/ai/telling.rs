//! The text of a completion on the channel of its job, as it comes, while somebody is subscribed there.

use crate::{
    Context,
    jobs::{engine::held::LeasedJob, events},
};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Between two publications: a subscriber reads no faster.
const EVERY: Duration = Duration::from_millis(50);
/// Until it is asked again whether anybody is subscribed.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Of one publication.
const PART_BYTES_MAX: usize = 4_096;

/// What has come and was not told yet. Whoever subscribes first gets it from the beginning.
#[derive(Debug)]
pub(super) struct Teller<'a> {
    ctx: &'a Context,
    job: &'a LeasedJob,
    untold: String,
    /// Characters that were told.
    n_told: usize,
    /// Not before.
    next_at: Instant,
}

impl<'a> Teller<'a> {
    pub(super) fn new(ctx: &'a Context, job: &'a LeasedJob) -> Self {
        Self { ctx, job, untold: String::new(), n_told: 0, next_at: Instant::now() }
    }

    pub(super) fn add(&mut self, text: &str) {
        self.untold.push_str(text);
    }

    /// Returns when there is something to tell, and time to.
    pub(super) async fn due(&self) {
        if self.untold.is_empty() {
            std::future::pending::<()>().await;
        }
        sleep_until(self.next_at).await;
    }

    /// Tells what there is. What cannot be told is in the result all the same.
    pub(super) async fn tell(&mut self) {
        let mut pause = EVERY;
        while !self.untold.is_empty() {
            let part = &self.untold[..self.untold.floor_char_boundary(PART_BYTES_MAX)];
            match events::tell_part(self.ctx, self.job, self.n_told, part).await {
                Ok(events::Heard::Yes) => {
                    self.n_told += part.chars().count();
                    let n_bytes = part.len();
                    self.untold.drain(..n_bytes);
                }
                Ok(events::Heard::ByNobody) => {
                    pause = ASK_EVERY;
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, job_id = %self.job.id(), "a part of a completion is told later");
                    pause = ASK_EVERY;
                    break;
                }
            }
        }
        self.next_at = Instant::now() + pause;
    }
}
