//! Announcements of the scripts, heard and published on the channels of their jobs.
//!
//! An attempt's start is published before its end, whoever publishes: of several processes one may hear the end first (it began to
//! follow in between, or read the row after Redis was away), and of an attempt that is over at once no start is announced. So whoever
//! tells an end tells the start before it, unless it has done so already; the idempotency key makes it one.

use super::{How, MARK_TTL, follows::Followed, tell};
use crate::{
    Code, Context, Error, Result,
    clock::{from_unix_ms, unix_ms},
    ids::JobId,
    jobs::{Job, JobError, JobState, Progress, QueueName, engine::followers, read},
    vital::steadily,
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::value::RawValue;
use std::{collections::HashMap, time::Duration};
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Until Redis is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// Longest that a subscription waits for Redis.
const PATIENCE: Duration = Duration::from_secs(2);
/// Announcements that are taken together, and jobs of them that are read and published at the same time.
const BATCH: usize = 256;
const AT_ONCE: usize = 16;
/// Larger results are not told: whoever wants them reads the job.
const RESULT_BYTES_MAX: usize = 16 << 10;

/// A start that is longer ago was told by those who heard it: shorter than its idempotency key is remembered, lest it be told twice.
const START_IS_RECENT: Duration = Duration::from_mins(4);

/// One announcement: `<id> <event> <attempt> <ms>[ <detail>]`. The detail of progress is `<percent>:<message>`, that of a requeued
/// attempt the time it was leased, if it had begun.
#[derive(Debug, PartialEq)]
struct Line {
    id: JobId,
    event: Event,
    attempt: i32,
    at_ms: i64,
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    /// Back to life, by hand.
    Queued,
    Started,
    Progress(Progress),
    /// Parked until somebody calls back.
    Waiting,
    /// To run again, or later; `None` for an attempt that never began.
    Requeued {
        begun_at_ms: Option<i64>,
    },
    Ended(JobState),
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ' ');
        let (id, event, attempt, at_ms) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let event = match event {
            "queued" => Event::Queued,
            "started" => Event::Started,
            "requeued" => Event::Requeued { begun_at_ms: parts.next().map(str::parse).transpose().ok()? },
            "waiting" => Event::Waiting,
            "progress" => {
                let (percent, message) = parts.next()?.split_once(':')?;
                Event::Progress(Progress::kept(percent.parse().ok()?, Some(message))?)
            }
            state => Event::Ended(state.parse().ok().filter(|state: &JobState| state.is_ended())?),
        };
        Some(Self { id: id.parse().ok()?, event, attempt: attempt.parse().ok()?, at_ms: at_ms.parse().ok()? })
    }

    /// The same for every process that hears it, and no other event's: an attempt begins, and is concluded, once.
    fn key(&self) -> String {
        match &self.event {
            Event::Queued => format!("queued:{}", self.attempt),
            Event::Started => format!("started:{}", self.attempt),
            Event::Progress(_) => format!("progress:{}:{}", self.attempt, self.at_ms),
            Event::Waiting => format!("waiting:{}", self.attempt),
            Event::Requeued { .. } => format!("requeued:{}", self.attempt),
            Event::Ended(state) => format!("{state}:{}", self.attempt),
        }
    }
}

/// An event as subscribers see it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    event: &'a str,
    job_id: JobId,
    queue: &'a QueueName,
    attempt: i32,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<&'a Progress>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    conclusion: Option<Conclusion<'a>>,
}

/// What is known of a job whose attempt is over.
#[derive(Debug, Serialize)]
struct Conclusion<'a> {
    error: Option<&'a JobError>,
    /// `null` where it is large; the job has it.
    result: Option<&'a RawValue>,
    worker_id: Option<&'a str>,
    #[serde(with = "time::serde::rfc3339")]
    run_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

/// Starts the process's one listener when the first job is followed, and returns when it hears.
pub(super) async fn begin(ctx: &Context) -> Result<()> {
    let follows = &ctx.jobs.follows;
    if follows.starts_listener() {
        let ctx = ctx.for_process();
        ctx.jobs.runtime.clone().spawn(async move { steadily("events of jobs", || keep_hearing(&ctx)).await });
    }
    let mut hearing = follows.hearing();
    let is_heard = timeout(PATIENCE, hearing.wait_for(|is_hearing| *is_hearing)).await;
    is_heard.map(drop).map_err(|_| Error::new(Code::RedisUnavailable, "Redis cannot be reached at the moment."))
}

async fn keep_hearing(ctx: &Context) {
    loop {
        ctx.jobs.follows.set_hearing(false);
        if let Err(error) = hear(ctx).await {
            tracing::debug!(%error, "what happens to followed jobs is not heard at the moment");
        }
        ctx.jobs.follows.set_hearing(false);
        sleep(RETRY_EVERY).await;
    }
}

/// Publishes what is heard until Redis goes away.
async fn hear(ctx: &Context) -> Result<()> {
    let mut pubsub = ctx.redis.pubsub().await?;
    pubsub.subscribe(ctx.keys.job_events()).await?;
    mark_all(ctx).await?;
    ctx.jobs.follows.set_hearing(true);
    catch_up(ctx).await;
    let publishing = async {
        let mut batches = pubsub.on_message().ready_chunks(BATCH);
        while let Some(messages) = batches.next().await {
            let lines = messages.iter().filter_map(|message| Line::parse(&message.get_payload::<String>().ok()?));
            publish_all(ctx, lines).await;
        }
        Ok(())
    };
    tokio::select! {
        ended = publishing => ended,
        failed = keep_marks(ctx) => failed,
    }
}

/// Renews the marks for as long as Redis takes them.
async fn keep_marks(ctx: &Context) -> Result<()> {
    let mut ticks = interval(MARK_TTL / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        mark_all(ctx).await?;
    }
}

async fn mark_all(ctx: &Context) -> Result<()> {
    for (queue, ids) in ctx.jobs.follows.jobs_by_queue() {
        followers::follow(ctx, &queue, &ids, MARK_TTL).await?;
    }
    Ok(())
}

/// Tells the ends of jobs that nothing was heard of; those that were told already are not told again.
async fn catch_up(ctx: &Context) {
    let looks = stream::iter(ctx.jobs.follows.jobs()).for_each_concurrent(AT_ONCE, async |id| {
        let Ok(job) = read::current(ctx, id).await else { return };
        if let (true, Some(at)) = (job.state.is_ended(), job.finished_at) {
            let at_ms = unix_ms(at);
            publish_one(ctx, &Line { id, event: Event::Ended(job.state), attempt: job.attempt, at_ms }).await;
        }
    });
    looks.await;
}

/// In order for each job; different ones do not wait for each other.
async fn publish_all(ctx: &Context, lines: impl Iterator<Item = Line>) {
    let mut by_job: HashMap<JobId, Vec<Line>> = HashMap::new();
    for line in lines {
        by_job.entry(line.id).or_default().push(line);
    }
    let each = stream::iter(by_job.into_values()).for_each_concurrent(AT_ONCE, async |lines| {
        for line in &lines {
            publish_one(ctx, line).await;
        }
    });
    each.await;
}

async fn publish_one(ctx: &Context, line: &Line) {
    let Some(followed) = ctx.jobs.follows.job(line.id) else { return };
    if let Err(error) = try_publish(ctx, line, &followed).await {
        tracing::debug!(%error, job_id = %line.id, "an event of a job is not told");
    }
}

async fn try_publish(ctx: &Context, line: &Line, followed: &Followed) -> Result<()> {
    let follows = &ctx.jobs.follows;
    match &line.event {
        Event::Queued => publish_line(ctx, line, &followed.queue, None).await,
        // Heard late: the end that was read from the row is told.
        Event::Started | Event::Progress(_) | Event::Waiting | Event::Requeued { .. } if line.attempt <= followed.over => Ok(()),
        Event::Started => {
            publish_line(ctx, line, &followed.queue, None).await?;
            follows.has_begun(line.id, line.attempt);
            Ok(())
        }
        Event::Progress(_) | Event::Waiting => publish_line(ctx, line, &followed.queue, None).await,
        Event::Requeued { begun_at_ms } => {
            let job = read::current(ctx, line.id).await?;
            publish_start(ctx, line, followed, *begun_at_ms).await?;
            publish_line(ctx, line, &followed.queue, Some(&job)).await
        }
        Event::Ended(_) => {
            let job = read::current(ctx, line.id).await?;
            // Requeued by hand meanwhile, it says nothing of this attempt any more.
            let begun_at = job.started_at.filter(|_| job.attempt == line.attempt);
            publish_start(ctx, line, followed, begun_at.map(unix_ms)).await?;
            publish_line(ctx, line, &followed.queue, Some(&job)).await?;
            follows.is_over(line.id, line.attempt);
            Ok(())
        }
    }
}

/// The start of the attempt whose end is told next, unless it is told.
async fn publish_start(ctx: &Context, end: &Line, followed: &Followed, begun_at_ms: Option<i64>) -> Result<()> {
    let is_recent = |at_ms: &i64| end.at_ms - at_ms < i64::try_from(START_IS_RECENT.as_millis()).unwrap_or(i64::MAX);
    let Some(at_ms) = begun_at_ms.filter(is_recent).filter(|_| followed.begun < end.attempt) else { return Ok(()) };
    let start = Line { id: end.id, event: Event::Started, attempt: end.attempt, at_ms };
    publish_line(ctx, &start, &followed.queue, None).await?;
    ctx.jobs.follows.has_begun(end.id, end.attempt);
    Ok(())
}

/// `job` is of a job whose attempt is over.
async fn publish_line(ctx: &Context, line: &Line, queue: &QueueName, job: Option<&Job>) -> Result<()> {
    let told = Told {
        event: match &line.event {
            Event::Queued => "queued",
            Event::Started => "started",
            Event::Progress(_) => "progress",
            Event::Waiting => "waiting",
            Event::Requeued { .. } if job.is_some_and(|job| job.error.is_some()) => "retrying",
            Event::Requeued { .. } => "queued",
            Event::Ended(state) => state.as_str(),
        },
        job_id: line.id,
        queue,
        attempt: line.attempt,
        at: from_unix_ms(line.at_ms).unwrap_or_else(|| ctx.clock.now()),
        progress: match &line.event {
            Event::Progress(progress) => Some(progress),
            Event::Queued | Event::Started | Event::Waiting | Event::Requeued { .. } | Event::Ended(_) => None,
        },
        conclusion: job.map(conclusion),
    };
    let how = How { key: Some(&line.key()), is_fleeting: matches!(line.event, Event::Progress(_)) };
    tell(ctx, &format!("job:{}", line.id), &told, &how).await
}

fn conclusion(job: &Job) -> Conclusion<'_> {
    Conclusion {
        error: job.error.as_ref(),
        result: job.result.as_deref().filter(|result| result.get().len() <= RESULT_BYTES_MAX),
        worker_id: job.worker_id.as_deref(),
        run_at: job.run_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_read_as_the_scripts_write_them() {
        let id = JobId::new();
        let line = |event, attempt| Some(Line { id, event, attempt, at_ms: 1_700_000_000_123 });
        let parse = |text: &str| Line::parse(&format!("{id} {text}"));
        assert_eq!(parse("started 1 1700000000123"), line(Event::Started, 1));
        assert_eq!(parse("dead 4 1700000000123"), line(Event::Ended(JobState::Dead), 4));
        let progress = Progress::kept(33.5, Some("row 5: über all")).unwrap();
        assert_eq!(parse("progress 2 1700000000123 33.5:row 5: über all"), line(Event::Progress(progress), 2));
        assert_eq!(parse("requeued 1 1700000000123"), line(Event::Requeued { begun_at_ms: None }, 1));
        assert_eq!(parse("requeued 1 1700000000123 1700000000100"), line(Event::Requeued { begun_at_ms: Some(1_700_000_000_100) }, 1));
        for wrong in ["running 1 1", "started", "started x 1", "progress 1 1", "progress 1 1 x:y", "requeued 1 1 x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
