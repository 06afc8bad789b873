//! Moving publications from Redis to PostgreSQL, as long as this process is the one that maintains.

use super::store;
use crate::{
    Context, Result,
    channels::{
        ChannelName,
        scripts::{self, UNSAVED_FORGET},
    },
    clock::{from_unix_ms, unix_ms},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::{collections::HashSet, time::Duration};
use time::OffsetDateTime;

/// Channels looked at in one pass, and publications read of each: the next pass goes on.
const CHANNELS_MAX: usize = 1_000;
const PUBLICATIONS_MAX: usize = 200;
/// What one statement writes at most.
const ROWS_MAX: usize = 5_000;
const BODY_BYTES_MAX: usize = 8 << 20;
const CHANNELS_AT_ONCE: usize = 64;

/// A channel that has nothing to be saved leaves the index when it was registered longer ago than this: much longer than a publisher
/// goes by its last registration, whatever its clock.
const FORGET_AFTER: Duration = Duration::from_mins(10);

/// Months that have their partition ahead of time.
const MONTHS_AHEAD: i32 = 1;

/// A publication that is in Redis alone.
#[derive(Debug)]
pub(super) struct Unsaved {
    pub(super) channel: ChannelName,
    id: String,
    pub(super) epoch: String,
    pub(super) offset: i64,
    pub(super) published_at: OffsetDateTime,
    pub(super) body: String,
}

/// Where a pass over the index stands.
#[derive(Debug, Default)]
pub struct Cursor(usize);

impl Cursor {
    /// Whether the next pass begins with the first channel.
    pub fn is_at_start(&self) -> bool {
        self.0 == 0
    }
}

/// Saves a part of what is to be saved, and returns how many publications that were. Begins anew behind the last channel.
pub async fn save(ctx: &Context, cursor: &mut Cursor) -> Result<usize> {
    let channels = registered(ctx, cursor).await?;
    let mut found = Vec::new();
    let mut n_saved = 0;
    let reads: Vec<_> = channels.iter().map(|(channel, at_ms)| read(ctx, channel, *at_ms)).collect();
    let mut reads = stream::iter(reads).buffered(CHANNELS_AT_ONCE);
    while let Some(unsaved) = reads.try_next().await? {
        found.extend(unsaved);
        if found.len() >= ROWS_MAX || found.iter().map(|unsaved| unsaved.body.len()).sum::<usize>() >= BODY_BYTES_MAX {
            n_saved += move_over(ctx, std::mem::take(&mut found)).await?;
        }
    }
    Ok(n_saved + move_over(ctx, found).await?)
}

/// Partitions ahead of time, and retention.
pub async fn keep_house(ctx: &Context) -> Result<()> {
    let now = ctx.clock.now();
    store::add_months(&ctx.pg, now.date(), MONTHS_AHEAD).await?;
    let kept = time::Duration::days(i64::from(ctx.settings().channel_history_retention_days));
    let n_dropped = store::drop_before(&ctx.pg, now - kept).await?;
    if n_dropped > 0 {
        tracing::info!(n_months = n_dropped, "publications past their retention were removed");
    }
    Ok(())
}

/// The next channels of the index, with the time at which they were registered.
async fn registered(ctx: &Context, cursor: &mut Cursor) -> Result<Vec<(ChannelName, f64)>> {
    let mut cmd = redis::cmd("ZRANGE");
    cmd.arg(ctx.keys.channels_unsaved()).arg(cursor.0).arg(cursor.0 + CHANNELS_MAX - 1).arg("WITHSCORES");
    let channels: Vec<(String, f64)> = cmd.query_async(&mut ctx.redis.connection()).await?;
    cursor.0 = if channels.len() < CHANNELS_MAX { 0 } else { cursor.0 + CHANNELS_MAX };
    Ok(channels.into_iter().filter_map(|(name, at_ms)| Some((ChannelName::new(&name).ok()?, at_ms))).collect())
}

/// What is unsaved of one channel. A channel without is forgotten once nobody goes by its registration any more.
async fn read(ctx: &Context, channel: &ChannelName, registered_at_ms: f64) -> Result<Vec<Unsaved>> {
    let mut cmd = redis::cmd("XRANGE");
    cmd.arg(ctx.keys.channel_unsaved(channel.as_str())).arg("-").arg("+").arg("COUNT").arg(PUBLICATIONS_MAX);
    let entries: Vec<(String, Vec<String>)> = cmd.query_async(&mut ctx.redis.connection()).await?;
    if entries.is_empty() {
        forget(ctx, channel, registered_at_ms).await?;
    }
    Ok(entries.into_iter().filter_map(|(id, fields)| parse(channel, id, fields)).collect())
}

async fn forget(ctx: &Context, channel: &ChannelName, registered_at_ms: f64) -> Result<()> {
    let until = unix_ms(ctx.clock.now() - FORGET_AFTER);
    scripts::run::<()>(ctx, &UNSAVED_FORGET, |cmd| {
        cmd.arg(1).arg(ctx.keys.channels_unsaved()).arg(channel.as_str()).arg(registered_at_ms).arg(until);
    })
    .await?;
    Ok(())
}

fn parse(channel: &ChannelName, id: String, fields: Vec<String>) -> Option<Unsaved> {
    let [_, offset, _, epoch, _, body, _, at_ms] = <[String; 8]>::try_from(fields).ok()?;
    let published_at = from_unix_ms(at_ms.parse().ok()?)?;
    Some(Unsaved { channel: channel.clone(), id, epoch, offset: offset.parse().ok()?, published_at, body })
}

/// Writes publications, and then removes them from Redis: a process that dies in between leaves them to be written again, which
/// adds nothing.
pub(super) async fn move_over(ctx: &Context, found: Vec<Unsaved>) -> Result<usize> {
    if found.is_empty() {
        return Ok(0);
    }
    let mut tx = ctx.pg.begin().await?;
    store::hold_off_removals(&mut tx).await?;
    let found = still_there(ctx, found).await?;
    store::insert(&mut *tx, &found).await?;
    tx.commit().await?;
    let removals: Vec<_> = found.chunk_by(|one, next| one.channel == next.channel).map(|saved| remove(ctx, saved)).collect();
    stream::iter(removals).buffer_unordered(CHANNELS_AT_ONCE).try_collect::<()>().await?;
    Ok(found.len())
}

/// `found` without the channels of which everything was removed since it was read.
async fn still_there(ctx: &Context, mut found: Vec<Unsaved>) -> Result<Vec<Unsaved>> {
    let firsts = found.chunk_by(|one, next| one.channel == next.channel).map(async |unsaved| {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(ctx.keys.channel_unsaved(unsaved[0].channel.as_str())).arg(&unsaved[0].id).arg(&unsaved[0].id);
        let entries: Vec<(String, Vec<String>)> = cmd.query_async(&mut ctx.redis.connection()).await?;
        Ok::<_, crate::Error>(entries.is_empty().then(|| unsaved[0].channel.clone()))
    });
    let firsts: Vec<_> = firsts.collect();
    let looks = stream::iter(firsts).buffer_unordered(CHANNELS_AT_ONCE).try_filter_map(async |gone| Ok(gone));
    let gone: HashSet<ChannelName> = looks.try_collect().await?;
    found.retain(|unsaved| !gone.contains(&unsaved.channel));
    Ok(found)
}

/// Removes publications of one channel from those that are to be saved.
async fn remove(ctx: &Context, saved: &[Unsaved]) -> Result<()> {
    let mut cmd = redis::cmd("XDEL");
    cmd.arg(ctx.keys.channel_unsaved(saved[0].channel.as_str()));
    for unsaved in saved {
        cmd.arg(&unsaved.id);
    }
    Ok(cmd.exec_async(&mut ctx.redis.connection()).await?)
}

/// What a process leaves that dies between the two halves of a move.
#[cfg(test)]
pub(super) async fn save_and_die(ctx: &Context) -> usize {
    let found = read_all(ctx).await;
    store::insert(&ctx.pg, &found).await.expect("PostgreSQL answers");
    found.len()
}

/// What a process that saves has before it writes.
#[cfg(test)]
pub(super) async fn read_all(ctx: &Context) -> Vec<Unsaved> {
    let mut found = Vec::new();
    for (channel, at_ms) in registered(ctx, &mut Cursor::default()).await.expect("Redis answers") {
        found.extend(read(ctx, &channel, at_ms).await.expect("Redis answers"));
    }
    found
}
