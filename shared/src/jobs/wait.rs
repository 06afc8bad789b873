//! Callers that wait for a job to end: one subscriber per process hears of all ends, and a slow poll catches what it misses.

use super::{Job, NewJob, race, read, submit};
use crate::{
    Code, Context, Result,
    ids::{JobId, UserId},
    shares::{Share, Shares},
    vital::steadily,
};
use futures_util::StreamExt;
use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Longest a caller may wait.
pub const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a waiter looks for itself.
const POLL: Duration = Duration::from_millis(500);
/// Longest for the look after the wait.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Everyone in this process who waits, by job.
#[derive(Debug)]
pub(super) struct Waiters {
    places: Arc<Shares<UserId>>,
    waiting: Mutex<HashMap<JobId, Arc<Notify>>>,
    listening: AtomicBool,
    /// The process stops: nobody waits any more.
    over: CancellationToken,
}

impl Waiters {
    pub(super) fn new(waiters_max: usize) -> Self {
        Self {
            places: Shares::up_to(waiters_max),
            waiting: Mutex::default(),
            listening: AtomicBool::new(false),
            over: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those who may wait; `None` when there is none for `user`, and when the process stops.
    pub(super) fn place(&self, user: UserId) -> Option<Share<UserId>> {
        if self.over.is_cancelled() { None } else { self.places.take(user, 1) }
    }

    /// Ends when those who wait are to be answered with what there is.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    #[cfg(test)]
    pub(super) fn n_waiting(&self) -> usize {
        self.lock().len()
    }

    fn wake(&self, id: JobId) {
        if let Some(ended) = self.lock().get(&id) {
            ended.notify_one();
        }
    }
}

/// Has everyone who waits answered with what there is now, and nobody wait from here on: a process that stops would cut them off later,
/// and its callers go on waiting elsewhere.
pub fn end_all(ctx: &Context) {
    ctx.jobs.waiters.over.cancel();
}

/// One caller waiting for one job; begun before the job is announced, so that no end is missed.
#[derive(Debug)]
pub struct Waiter {
    ctx: Context,
    id: JobId,
    ended: Arc<Notify>,
    _place: Share<UserId>,
}

impl Waiter {
    /// `None` when as many wait already as may (`WAIT_MAX`): the caller is then answered at once.
    pub async fn begin(ctx: &Context, job: &NewJob) -> Option<Self> {
        let place = ctx.jobs.waiters.place(job.owner_id)?;
        let ended = Arc::new(Notify::new());
        ctx.jobs.waiters.lock().insert(job.id, Arc::clone(&ended));
        let waiter = Self { ctx: ctx.clone(), id: job.id, ended, _place: place };
        listen(ctx);
        race::watch(ctx, &job.queue, job.id, WAIT_MAX).await;
        Some(waiter)
    }

    /// The job once it has ended, or as it stands after `patience` and when the caller has `left`. `accepted` is what it was at its submit, which nothing that
    /// goes wrong from here on undoes: the job is told as it was last seen when it cannot be read, or was deleted meanwhile.
    pub async fn wait(self, accepted: Job, patience: Duration, left: impl Future<Output = ()>) -> Job {
        let deadline = Instant::now() + patience.min(WAIT_MAX);
        let mut poll = interval_at(Instant::now() + POLL, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_seen = accepted;
        let watch = async {
            let mut left = pin!(left);
            loop {
                tokio::select! {
                    () = self.ended.notified() => {}
                    _ = poll.tick() => {}
                    () = self.ctx.jobs.waiters.over() => return,
                    () = &mut left => return,
                }
                match read::current(&self.ctx, self.id).await {
                    Ok(job) => last_seen = job,
                    Err(error) if error.code == Code::NotFound => return,
                    Err(error) => tracing::debug!(%error, job_id = %self.id, "a job that is waited for cannot be read at the moment"),
                }
                if last_seen.state.is_ended() {
                    return;
                }
            }
        };
        if timeout_at(deadline, watch).await.is_ok() {
            return last_seen;
        }
        let at_last = timeout(LAST_LOOK, read::current(&self.ctx, self.id)).await;
        at_last.ok().and_then(Result::ok).unwrap_or(last_seen)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.ctx.jobs.waiters.lock().remove(&self.id);
    }
}

/// Submits a prepared job and waits up to `patience` for its end; `begins` is called when the job is submitted and there is nothing left but
/// to wait, and gives what ends when the caller has left. At once when too many wait already, and for a duplicate.
pub async fn submit_and_wait<L: Future<Output = ()>>(
    ctx: &Context,
    job: NewJob,
    patience: Duration,
    begins: impl FnOnce() -> L,
) -> Result<Job> {
    let waiter = Waiter::begin(ctx, &job).await;
    let job = submit::submit(ctx, job).await?;
    match waiter {
        Some(waiter) if !job.duplicate => {
            let left = begins();
            Ok(waiter.wait(job, patience, left).await)
        }
        Some(_) | None => Ok(job),
    }
}

/// Starts the process's one listener when the first caller waits.
fn listen(ctx: &Context) {
    if !ctx.jobs.waiters.listening.swap(true, Ordering::Relaxed) {
        let ctx = ctx.for_process();
        ctx.jobs.runtime.clone().spawn(async move { steadily("ends of jobs", || keep_hearing(&ctx)).await });
    }
}

async fn keep_hearing(ctx: &Context) {
    loop {
        if let Err(error) = hear_ends(ctx).await {
            tracing::debug!(%error, "ends of jobs are not heard at the moment; waiting callers poll");
        }
        sleep(POLL).await;
    }
}

/// Wakes waiters until Redis goes away.
async fn hear_ends(ctx: &Context) -> Result<()> {
    let mut pubsub = ctx.redis.pubsub().await?;
    pubsub.subscribe(ctx.keys.job_ends()).await?;
    let mut messages = pubsub.on_message();
    while let Some(message) = messages.next().await {
        let text: String = message.get_payload()?;
        // `<job id> <state>`
        if let Some(id) = text.split(' ').next().and_then(|id| id.parse().ok()) {
            ctx.jobs.waiters.wake(id);
        }
    }
    Ok(())
}
