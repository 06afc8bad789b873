//! Who runs what right now, read from Redis: the overlay on rows that PostgreSQL knows as pending.

use super::{
    rates,
    scripts::{QueueKeys, id_of},
    token::Nonce,
};
use crate::{
    Context, Error, Result,
    clock::from_unix_ms,
    ids::JobId,
    jobs::{Progress, QueueName},
};
use std::collections::HashMap;
use time::OffsetDateTime;

/// A lease in the form that the scripts keep it: `<flag><cancel>:<attempt>:<nonce>:<worker>:<since_ms>`,
/// and `:<percent>:<message>` once it has told its progress.
#[derive(Debug)]
pub(super) struct LeaseText<'a> {
    pub(super) started: bool,
    pub(super) attempt: i32,
    pub(super) nonce: Nonce,
    pub(super) worker_id: &'a str,
    pub(super) since: Option<OffsetDateTime>,
    pub(super) progress: Option<Progress>,
}

impl<'a> LeaseText<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let corrupt = || Error::internal(format!("`{text}` is not a lease"));
        let mut parts = text.splitn(7, ':');
        let mut next = || parts.next().ok_or_else(corrupt);
        Ok(Self {
            started: !next()?.starts_with('l'),
            attempt: next()?.parse().map_err(|_| corrupt())?,
            nonce: Nonce(next()?.parse().map_err(|_| corrupt())?),
            worker_id: next()?,
            since: from_unix_ms(next()?.parse().map_err(|_| corrupt())?),
            progress: parts.next().zip(parts.next()).and_then(|(percent, message)| Progress::parse(percent, message)),
        })
    }
}

/// A delivery that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    pub attempt: i32,
    pub worker_id: String,
    /// Whether the handler is known to have begun; until then the job waits in its worker.
    pub started: bool,
    pub since: Option<OffsetDateTime>,
    pub progress: Option<Progress>,
}

/// The leases of those of `job_ids` that have one.
pub async fn leases(ctx: &Context, queue: &QueueName, job_ids: &[JobId]) -> Result<HashMap<JobId, Lease>> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let mut found = HashMap::new();
    for ids in job_ids.chunks(super::IDS_MAX) {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(keys.tok()).arg(ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        let texts: Vec<Option<String>> = cmd.query_async(&mut ctx.redis.connection()).await?;
        for (id, text) in ids.iter().zip(texts) {
            if let Some(text) = text {
                found.insert(*id, read(&text)?);
            }
        }
    }
    Ok(found)
}

/// One page of a queue's leases, in no order; `cursor` 0 starts, and a returned 0 ends. A lease may come twice.
pub async fn running(ctx: &Context, queue: &QueueName, cursor: u64) -> Result<(Vec<(JobId, Lease)>, u64)> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let (next, flat): (u64, Vec<String>) =
        redis::cmd("HSCAN").arg(keys.tok()).arg(cursor).arg("COUNT").arg(500).query_async(&mut ctx.redis.connection()).await?;
    let page = flat.chunks_exact(2).map(|pair| Ok((id_of(&pair[0])?, read(&pair[1])?)));
    Ok((page.collect::<Result<_>>()?, next))
}

fn read(text: &str) -> Result<Lease> {
    let lease = LeaseText::parse(text)?;
    Ok(Lease {
        attempt: lease.attempt,
        worker_id: lease.worker_id.to_owned(),
        started: lease.started,
        since: lease.since,
        progress: lease.progress,
    })
}

/// How many jobs of a queue are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depths {
    pub queued: u64,
    pub scheduled: u64,
    pub running: u64,
}

/// Counts in Redis, in one round trip. `scheduled` holds retries as well. The lists are not asked: they keep the ids of removed jobs
/// until their turn comes, and a queue that was purged would seem full.
pub async fn depths(ctx: &Context, queue: &QueueName) -> Result<Depths> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let mut pipe = redis::pipe();
    pipe.zcard(keys.delayed()).zcard(keys.leased()).hlen(keys.att());
    let (scheduled, running, all): (u64, u64, u64) = pipe.query_async(&mut ctx.redis.connection()).await?;
    Ok(Depths { scheduled, running, queued: all.saturating_sub(scheduled + running) })
}

/// Removes every key of a queue.
pub async fn forget_queue(ctx: &Context, queue: &QueueName) -> Result<()> {
    let mut cmd = redis::cmd("UNLINK");
    cmd.arg(&ctx.keys.queue_scripts(queue.as_str())).arg(&rates::keys(&ctx.keys, queue));
    Ok(cmd.exec_async(&mut ctx.redis.connection()).await?)
}

/// Stops or resumes leasing from a queue. The row in `queues` is the truth; this makes it felt at once.
pub async fn set_paused(ctx: &Context, queue: &QueueName, paused: Paused) -> Result<()> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let flag = match paused {
        Paused::Yes => "1",
        Paused::No => "0",
    };
    let mut pipe = redis::pipe();
    pipe.hset(keys.cfg(), "paused", flag).ignore();
    pipe.publish(ctx.keys.doorbell(), queue.as_str()).ignore();
    pipe.exec_async(&mut ctx.redis.connection()).await?;
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paused {
    Yes,
    No,
}
