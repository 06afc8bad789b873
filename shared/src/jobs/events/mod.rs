//! What becomes of jobs and queues, told on their channels `job:<id>` and `queue:<name>` while somebody is subscribed.
//!
//! [`follow`] marks a job in Redis; the scripts that move jobs announce what happens to marked ones, and nothing of others. Every
//! process that follows a job hears it, and publishes it under the same idempotency key: it is published once. A queue's stats are
//! published every second, by whichever process comes first. In reading order: `follows` (what this process follows), `hearing`
//! (announcements into publications), `stats`.

mod follows;
mod hearing;
mod stats;

pub(super) use follows::Follows;

use super::{
    QueueName,
    engine::{followers, held::LeasedJob},
    read,
};
use crate::{
    Context, Error, Result,
    channels::{Audience, Channel, NewPublication, publish},
    clock::unix_ms,
    ids::JobId,
};
use serde::Serialize;
use serde_json::value::to_raw_value;
use std::time::Duration;

/// Marks end after this unless they are renewed: what a process leaves that was killed.
const MARK_TTL: Duration = Duration::from_mins(1);

/// Begins to tell what happens on `channel`, if it is one of a job or of a queue. When this returns, what happens from now on is
/// told; so subscribe first, then read how the job stands.
pub async fn follow(ctx: &Context, channel: &Channel) -> Result<()> {
    match channel.namespace.audience {
        Audience::Job => follow_job(ctx, channel).await,
        Audience::Queue => {
            let queue = QueueName::new(channel.rest())?;
            ctx.jobs.follows.add_queue(queue);
            stats::begin(ctx);
            Ok(())
        }
        Audience::Open | Audience::Personal | Audience::Track => Ok(()),
    }
}

async fn follow_job(ctx: &Context, channel: &Channel) -> Result<()> {
    let id = job_of(channel).ok_or_else(|| Error::not_found("job"))?;
    let queue = read::queue_of(ctx, id).await?;
    ctx.jobs.follows.add_job(id, queue.clone());
    hearing::begin(ctx).await?;
    followers::follow(ctx, &queue, &[id], MARK_TTL).await
}

/// Ends what [`follow`] began; others that follow the same go on.
pub fn unfollow(ctx: &Context, channel: &Channel) {
    match channel.namespace.audience {
        // The mark runs out by itself: another process may follow the job too.
        Audience::Job => drop(job_of(channel).map(|id| ctx.jobs.follows.remove_job(id))),
        Audience::Queue => drop(QueueName::new(channel.rest()).map(|queue| ctx.jobs.follows.remove_queue(&queue))),
        Audience::Open | Audience::Personal | Audience::Track => {}
    }
}

/// The job of a channel. An id has other spellings, and those are nobody's channels.
pub fn job_of(channel: &Channel) -> Option<JobId> {
    let id: JobId = channel.rest().parse().ok()?;
    (id.to_string() == channel.rest()).then_some(id)
}

/// Tells those who follow them that jobs came back to life.
pub(super) async fn announce_requeued(ctx: &Context, queue: &QueueName, jobs: &[(JobId, i32)]) {
    let at_ms = unix_ms(ctx.clock.now());
    let lines = jobs.iter().map(|(id, attempt)| (*id, format!("{id} queued {attempt} {at_ms}"))).collect::<Vec<_>>();
    if let Err(error) = followers::tell(ctx, queue, &lines).await {
        tracing::debug!(%error, %queue, "who follows requeued jobs does not hear of it");
    }
}

/// Whether anybody is subscribed to the channel of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Yes,
    ByNobody,
}

/// A piece of what an attempt makes while it runs.
#[derive(Debug, Serialize)]
struct Part<'a> {
    event: &'static str,
    job_id: JobId,
    queue: &'a QueueName,
    attempt: i32,
    /// Characters that came before it in this attempt.
    from: usize,
    text: &'a str,
}

/// Tells a piece of the text that an attempt makes, in order and to those who listen now: nothing of it is kept, the job's result has
/// all of it. Where nobody follows the job, nothing is published.
pub async fn tell_part(ctx: &Context, job: &LeasedJob, from: usize, text: &str) -> Result<Heard> {
    let (id, queue) = (job.id(), &job.keys.queue);
    if !followers::is_followed(ctx, &job.keys, id).await? {
        return Ok(Heard::ByNobody);
    }
    let part = Part { event: "delta", job_id: id, queue, attempt: job.token.attempt, from, text };
    tell(ctx, &format!("job:{id}"), &part, &How { key: None, is_fleeting: true }).await?;
    Ok(Heard::Yes)
}

/// Publishes `event` on the channel `<namespace>:<name>`.
async fn tell(ctx: &Context, channel: &str, event: &impl Serialize, how: &How<'_>) -> Result<()> {
    let channel = ctx.namespaces.resolve(channel)?;
    let data = to_raw_value(event).map_err(Error::internal)?;
    let new = NewPublication { idempotency_key: how.key, skip_history: how.is_fleeting, ..NewPublication::ours(&data) };
    publish(ctx, &channel, &new).await?;
    Ok(())
}

/// How an event is published.
struct How<'a> {
    /// Told once, however many processes publish it.
    key: Option<&'a str>,
    /// Nobody will want it later: it shall not push others out of the history.
    is_fleeting: bool,
}
