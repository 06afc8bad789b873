//! Keeps Redis saying what PostgreSQL says: rows that Redis lacks are copied, copies without a row are removed, and a
//! Redis that restarted or was emptied is filled again.

use super::{
    Outcome,
    cancel::take_and_conclude,
    leases::{Paused, set_paused},
    scripts::{self, IDS_MAX, Places, QueueKeys, id_of},
    store::{self, PendingRow, QueueRow},
    volatile,
};
use crate::redis::Connection;
use crate::{Context, Error, Result, ids::JobId, jobs::QueueName, telemetry::metrics};
use redis::Script;
use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
    time::Duration,
};
use time::OffsetDateTime;
use uuid::Uuid;

const PAGE: i64 = 1_000;

/// The lowest id of an instant: ids are UUIDv7 and sort by their time.
pub fn id_floor(at: OffsetDateTime) -> Uuid {
    let ms = u128::try_from(crate::clock::unix_ms(at).max(0)).expect("not negative");
    Uuid::from_u128(ms << 80)
}

/// Lets a queue be leased from on this Redis, as its row says. What it holds is rebuilt afterwards, while it already runs.
pub async fn restore(ctx: &Context, queue: &QueueRow) -> Result<()> {
    let lease = Duration::from_millis(ctx.settings().worker_lease_ms);
    // Nothing can have been leased from a queue that is younger than a lease.
    let keyed_wait = if ctx.clock.now() - queue.created_at < lease { Duration::ZERO } else { lease };
    let keys = QueueKeys::new(&ctx.keys, &queue.name);
    scripts::restore(&mut ctx.redis.connection(), &keys, queue.is_paused, &queue.limits, keyed_wait).await
}

/// Copies every pending row of a queue into Redis, those that are due first; returns how many copies were written.
///
/// Of what this Redis has, only whole leases are believed. A file that was cut off inside a script's writes loses them all at
/// the first start, but Redis (7.0) leaves the half of them in the file, and takes them for true at the next.
pub async fn rebuild(ctx: &Context, queue: &QueueName) -> Result<u64> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let now = ctx.clock.now();
    scripts::forget_places(&mut ctx.redis.connection(), &keys).await?;
    let mut n_copied = 0;
    for is_due in [true, false] {
        let mut after = Uuid::nil();
        loop {
            let ids = store::pending_ids(&ctx.pg, queue, after, now, is_due, PAGE).await?;
            n_copied += copy(ctx, &keys, &ids, Places::Lost).await?;
            match ids.last() {
                Some(last) if i64::try_from(ids.len()).is_ok_and(|n| n == PAGE) => after = last.0,
                Some(_) | None => break,
            }
        }
    }
    n_copied += volatile::place_again(ctx, &keys).await?;
    mend_leases(ctx, &keys).await?;
    scripts::rebuilt(&mut ctx.redis.connection(), &keys).await?;
    Ok(n_copied)
}

/// Drops leases whose copy is not leased; returns at the end of all that this Redis has.
async fn mend_leases(ctx: &Context, keys: &QueueKeys) -> Result<()> {
    let mut connection = ctx.redis.connection();
    let mut cursor = 0_u64;
    loop {
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(keys.tok()).arg(cursor).arg("COUNT").arg(500);
        let (next, flat): (u64, Vec<String>) = cmd.query_async(&mut connection).await?;
        let ids = flat.chunks_exact(2).map(|pair| id_of(&pair[0])).collect::<Result<Vec<JobId>>>()?;
        for ids in ids.chunks(IDS_MAX) {
            count("mended", scripts::mend(&mut connection, keys, ids).await?);
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Tells Redis of each pause and resume that it has not heard of: it was away when that was made, or a queue was restored by a
/// list that was read before it. A queue that is not restored yet will be as its row says.
pub async fn repair_pauses(ctx: &Context, queues: &[QueueRow]) -> Result<()> {
    let mut suspects = HashMap::new();
    for queues in queues.chunks(IDS_MAX) {
        for (queue, flag) in queues.iter().zip(pause_flags(ctx, queues).await?) {
            if let Some(flag) = flag.filter(|flag| *flag != queue.is_paused) {
                suspects.insert(&queue.name, flag);
            }
        }
    }
    if suspects.is_empty() {
        return Ok(());
    }
    // Rows that were read before Redis was asked may be older than what it says.
    for queue in store::queues(&ctx.pg).await? {
        if suspects.get(&queue.name).is_some_and(|flag| *flag != queue.is_paused) {
            set_paused(ctx, &queue.name, if queue.is_paused { Paused::Yes } else { Paused::No }).await?;
            count("paused", 1);
        }
    }
    Ok(())
}

/// Whether Redis takes each queue for paused.
async fn pause_flags(ctx: &Context, queues: &[QueueRow]) -> Result<Vec<Option<bool>>> {
    let mut pipe = redis::pipe();
    for queue in queues {
        pipe.hget(QueueKeys::new(&ctx.keys, &queue.name).cfg(), "paused");
    }
    let flags: Vec<Option<String>> = pipe.query_async(&mut ctx.redis.connection()).await?;
    Ok(flags.into_iter().map(|flag| flag.map(|flag| flag == "1")).collect())
}

/// Compares one page of rows from `after` to `until` with Redis and repairs; returns where the next page starts, `None` at the end.
pub async fn repair_rows(ctx: &Context, after: Uuid, until: Uuid) -> Result<Option<Uuid>> {
    let rows = store::pending_page(&ctx.pg, after, until, ctx.clock.now(), PAGE).await?;
    let is_last = i64::try_from(rows.len()).is_ok_and(|n| n < PAGE);
    let next = rows.last().map(|row| row.id.0).filter(|_| !is_last);
    let mut by_queue: HashMap<String, Vec<PendingRow>> = HashMap::new();
    for row in rows {
        by_queue.entry(row.queue.clone()).or_default().push(row);
    }
    add_queues(ctx, &by_queue).await?;
    for (queue, rows) in by_queue {
        repair_queue_rows(ctx, &QueueName::new(&queue)?, &rows).await?;
    }
    Ok(next)
}

/// A job may be taken for a queue that was deleted at that moment: the queue then is there again, with defaults.
async fn add_queues(ctx: &Context, rows: &HashMap<String, Vec<PendingRow>>) -> Result<()> {
    let names = rows.keys().map(String::as_str).collect::<Vec<_>>();
    if !names.is_empty() {
        let n_added = store::upkeep::add_missing_queues(&ctx.pg, &names).await?;
        if n_added > 0 {
            tracing::warn!(n_added, "queues that were deleted have jobs, and are there again");
        }
    }
    Ok(())
}

async fn repair_queue_rows(ctx: &Context, queue: &QueueName, rows: &[PendingRow]) -> Result<()> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let copies: Vec<Option<String>> = redis::cmd("HMGET").arg(keys.att()).arg(&ids).query_async(&mut ctx.redis.connection()).await?;
    let mut missing = Vec::new();
    for (row, copy) in rows.iter().zip(&copies) {
        let copied = copy.as_deref().and_then(|copy| copy.get(1..)).and_then(|standing| standing.parse::<super::Standing>().ok());
        let is_leased = copy.as_deref().is_some_and(|copy| copy.starts_with('l'));
        if copied.is_none_or(|copied| copied.attempt < row.attempt) {
            missing.push(row.id);
        } else if row.is_cancel_requested {
            super::cancel(ctx, queue, row.id).await?;
        } else if row.is_expired && !is_leased {
            take_and_conclude(ctx, queue, row.id, Outcome::Expired).await?;
        }
    }
    let n_copied = copy(ctx, &keys, &missing, Places::Kept).await?;
    count("enqueued", n_copied);
    Ok(())
}

/// Brings those of `ids` that are pending before the workers, some time after they were committed.
pub async fn announce(ctx: &Context, queue: &QueueName, ids: &[JobId]) -> Result<u64> {
    copy(ctx, &QueueKeys::new(&ctx.keys, queue), ids, Places::Kept).await
}

/// Reads the rows of `ids` once more and copies those still pending. Redis' time is taken before the read, so that a copy
/// held up on its way is refused and not believed.
pub(super) async fn copy(ctx: &Context, keys: &QueueKeys, ids: &[JobId], places: Places) -> Result<u64> {
    let mut n_copied = 0;
    let mut connection = ctx.redis.connection();
    for ids in ids.chunks(IDS_MAX) {
        let as_of_ms = redis_time_ms(&mut connection, keys).await?;
        let rows = store::copies(&ctx.pg, ids).await?;
        let copies: Vec<_> = rows.into_iter().map(|(_, copy)| copy).collect();
        if copies.is_empty() {
            continue;
        }
        match scripts::enqueue_as_of(&mut connection, keys, &copies, Some(as_of_ms), places).await? {
            Some(n) => n_copied += n,
            // The next pass takes a copy that is there for one that is placed.
            None if places == Places::Lost => return Err(Error::internal("copies came too late for a rebuild to place them")),
            None => {
                tracing::warn!(queue = %keys.queue, n_jobs = copies.len(), "copies came too late to be believed; the next pass makes them")
            }
        }
    }
    Ok(n_copied)
}

/// The time of the server that has the queue: the masters of a cluster have clocks of their own.
pub(super) async fn redis_time_ms(connection: &mut Connection, keys: &QueueKeys) -> Result<i64> {
    static TIME: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('TIME')"));
    let (seconds, micros): (i64, i64) = TIME.key(keys.cfg()).invoke_async(connection).await?;
    Ok(seconds * 1_000 + micros / 1_000)
}

/// Removes waiting copies whose row is over or gone, from one page of a queue's copies, and mends torn leases; returns the next
/// cursor, 0 at the end.
///
/// A copy is made after its row is committed: one that is seen first and whose row then is not there has ended.
pub async fn repair_copies(ctx: &Context, queue: &QueueName, cursor: u64) -> Result<u64> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let mut connection = ctx.redis.connection();
    let (next, flat): (u64, Vec<String>) =
        redis::cmd("HSCAN").arg(keys.att()).arg(cursor).arg("COUNT").arg(500).query_async(&mut connection).await?;
    let (mut seen, mut leased) = (Vec::new(), Vec::new());
    for pair in flat.chunks_exact(2) {
        let id = id_of(&pair[0])?;
        if pair[1].starts_with('l') { leased.push(id) } else { seen.push((id, pair[1].clone())) }
    }
    for leased in leased.chunks(IDS_MAX) {
        count("mended", scripts::mend(&mut connection, &keys, leased).await?);
    }
    let ids: Vec<JobId> = seen.iter().map(|(id, _)| *id).collect();
    let pending: HashSet<JobId> = store::pending_among(&ctx.pg, &ids).await?.into_iter().collect();
    seen.retain(|(id, _)| !pending.contains(id));
    volatile::spare(ctx, &keys, &mut seen).await?;
    for seen in seen.chunks(IDS_MAX) {
        count("removed", scripts::remove(&mut connection, &keys, seen).await?);
    }
    Ok(next)
}

fn count(repair: &'static str, n: u64) {
    if n > 0 {
        ::metrics::counter!(metrics::JOB_RECONCILED, "repair" => repair).increment(n);
        tracing::info!(repair, n_jobs = n, "the reconciler repaired Redis");
    }
}
