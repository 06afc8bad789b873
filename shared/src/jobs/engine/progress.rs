//! Progress that running attempts report: kept beside the attempt, written to Redis at most every 100 ms, the last value
//! of each. It lies in the lease and goes with it. A job that reports none costs nothing.

use super::{
    IDS_MAX,
    held::{Held, LeasedJob},
    scripts::{self, QueueKeys},
    token::Token,
};
use crate::redis::Connection;
use crate::{
    Context, Result,
    jobs::{Progress, QueueName},
};
use redis::Script;
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};

/// Between two writes: what is reported more often is thinned out to its last value.
const EVERY: Duration = Duration::from_millis(100);
/// Longest message that is kept, in bytes.
const MESSAGE_MAX: usize = 200;

static PROGRESS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("progress.lua")));

/// What was reported since the last write. Bounded by the number of attempts that this process holds.
#[derive(Debug, Default)]
pub struct Board {
    fresh: Mutex<HashMap<Token, Arc<LeasedJob>>>,
    reported: Notify,
}

impl Progress {
    /// Progress as it is kept: within 0 to 100, the message cut to 200 bytes and without NUL. `None` for what is no number.
    pub fn kept(percent: f64, message: Option<&str>) -> Option<Self> {
        let cut = |text: &str| text[..text.floor_char_boundary(MESSAGE_MAX)].replace('\0', " ");
        (!percent.is_nan()).then(|| Self { percent: percent.clamp(0.0, 100.0), message: message.filter(|text| !text.is_empty()).map(cut) })
    }

    /// As the lease holds it.
    fn text(&self) -> String {
        format!("{}:{}", self.percent, self.message.as_deref().unwrap_or_default())
    }

    pub(super) fn parse(percent: &str, message: &str) -> Option<Self> {
        Self::kept(percent.parse().ok()?, Some(message))
    }
}

impl Board {
    /// Takes a report in; the last one before the next write is the one that is seen.
    pub fn report(&self, job: &Arc<LeasedJob>, progress: Progress) {
        job.signals.set_progress(progress);
        self.fresh.lock().expect("nothing panics while it holds this lock").insert(job.token, Arc::clone(job));
        self.reported.notify_one();
    }

    fn take(&self) -> HashMap<Token, Arc<LeasedJob>> {
        std::mem::take(&mut *self.fresh.lock().expect("nothing panics while it holds this lock"))
    }

    /// Writes for as long as it is polled.
    pub async fn publish(&self, ctx: &Context, held: &Held) {
        loop {
            self.reported.notified().await;
            let mut by_queue: HashMap<QueueName, Vec<Arc<LeasedJob>>> = HashMap::new();
            for (token, job) in self.take() {
                if held.holds(token) {
                    by_queue.entry(job.keys.queue.clone()).or_default().push(job);
                }
            }
            for jobs in by_queue.values().flat_map(|jobs| jobs.chunks(IDS_MAX)) {
                let told: Vec<_> = jobs.iter().filter_map(|job| Some((job.token, job.signals.progress()?))).collect();
                if let Err(error) = write(&mut ctx.redis.connection(), &jobs[0].keys, &told).await {
                    tracing::debug!(%error, "progress is told again");
                    self.keep(jobs);
                }
            }
            sleep(EVERY).await;
        }
    }

    /// To be written with the next; a newer report is beside its job already.
    fn keep(&self, jobs: &[Arc<LeasedJob>]) {
        self.fresh.lock().expect("nothing panics while it holds this lock").extend(jobs.iter().map(|job| (job.token, Arc::clone(job))));
        self.reported.notify_one();
    }
}

/// Writes one queue's, at most [`IDS_MAX`], in one call; returns how many still have their lease.
pub(super) async fn write(connection: &mut Connection, keys: &QueueKeys, told: &[(Token, Progress)]) -> Result<u64> {
    let mut cmd = keys.call(&PROGRESS);
    cmd.arg(keys.job_events());
    for (token, progress) in told {
        cmd.arg(token.job_id.to_string()).arg(token.text()).arg(progress.text());
    }
    scripts::run(connection, &PROGRESS, &cmd).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_kept_within_its_bounds_and_reads_as_it_was_written() {
        let kept = Progress::kept(33.5, Some("row 5: über")).unwrap();
        let text = kept.text();
        let (percent, message) = text.split_once(':').unwrap();
        assert_eq!(Progress::parse(percent, message), Some(kept));
        assert_eq!(Progress::kept(-1.0, None), Some(Progress { percent: 0.0, message: None }));
        assert_eq!(Progress::kept(f64::INFINITY, Some("")), Some(Progress { percent: 100.0, message: None }));
        assert_eq!(Progress::kept(f64::NAN, None), None);
        let long = Progress::kept(1.0, Some(&"ü".repeat(500))).unwrap().message.unwrap();
        assert_eq!(long.len(), MESSAGE_MAX);
    }
}
