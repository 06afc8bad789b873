//! Reading what is kept of a channel, and where it stands.

use super::{
    Channel, ChannelError, Position, Publication, persist,
    scripts::{self, HISTORY},
};
use crate::{Context, Error};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::FromRedisValue;

/// Most publications in one answer, and the most that a client catches up with in one step.
pub const HISTORY_READ_MAX: u32 = 300;

/// Positions asked for at once; the rest wait, so that a process with many channels does not crowd out everyone else's commands.
const POSITIONS_AT_ONCE: usize = 128;

/// In which order publications are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Reverse,
}

/// Which publications to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// At most so many, and at most [`HISTORY_READ_MAX`]; 0 reads the position alone.
    pub limit: u32,
    /// Those after this offset, or before it in reverse. `None` begins at the end that the direction begins at.
    pub since: Option<Position>,
    pub direction: Direction,
}

impl Filter {
    pub fn newest(limit: u32) -> Self {
        Self { limit, since: None, direction: Direction::Reverse }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub publications: Vec<Publication>,
    /// Where the channel stands.
    pub position: Position,
}

/// What one script read.
pub(super) struct Read {
    pub(super) history: History,
    /// The first part of the ids under which publications of this epoch wait to be saved.
    pub(super) unsaved_ms: Option<u64>,
}

/// What is kept of a channel, in PostgreSQL too if it is persisted. `UnrecoverablePosition` when `since` is of another epoch; publications that are no longer kept
/// are simply not there.
pub async fn history(ctx: &Context, channel: &Channel, filter: &Filter) -> Result<History, ChannelError> {
    if channel.namespace.history.is_none() {
        return Err(ChannelError::NotAvailable);
    }
    let read = read(ctx, channel, filter).await?;
    if filter.since.as_ref().is_some_and(|since| !since.counts_in(&read.history.position.epoch)) {
        return Err(ChannelError::UnrecoverablePosition);
    }
    Ok(if channel.namespace.persist { persist::complete(ctx, channel, filter, read).await } else { read.history })
}

/// What a subscriber that was at `since` has missed, for [`begin`](super::recovery::begin): only what Redis keeps, so that coming
/// back costs the same in a persisted channel. In another epoch it is what there is of that one.
pub async fn missed(ctx: &Context, channel: &Channel, since: &Position) -> Result<History, ChannelError> {
    if channel.namespace.history.is_none() {
        return Err(ChannelError::NotAvailable);
    }
    let filter = Filter { limit: HISTORY_READ_MAX, since: Some(since.clone()), direction: Direction::Forward };
    Ok(read(ctx, channel, &filter).await?.history)
}

/// Where the channel stands.
pub async fn position(ctx: &Context, channel: &Channel) -> Result<Position, ChannelError> {
    Ok(history(ctx, channel, &Filter::default()).await?.position)
}

/// The same of many channels, in their order; of one that keeps no history it is `None`.
pub async fn positions(ctx: &Context, channels: &[Channel]) -> Result<Vec<Option<Position>>, ChannelError> {
    let each = stream::iter(channels).map(async |channel| match position(ctx, channel).await {
        Ok(position) => Ok(Some(position)),
        Err(ChannelError::NotAvailable) => Ok(None),
        Err(error) => Err(error),
    });
    each.buffered(POSITIONS_AT_ONCE).try_collect().await
}

/// Forgets what is kept; the position stays, so that readers who missed something of it are told.
pub async fn history_remove(ctx: &Context, channel: &Channel) -> Result<(), ChannelError> {
    if channel.namespace.history.is_none() {
        return Err(ChannelError::NotAvailable);
    }
    if channel.namespace.persist {
        return persist::remove(ctx, channel).await;
    }
    let mut cmd = redis::cmd("UNLINK");
    cmd.arg(ctx.keys.channel_history(channel.name.as_str()));
    Ok(cmd.exec_async(&mut ctx.redis.connection()).await?)
}

async fn read(ctx: &Context, channel: &Channel, filter: &Filter) -> Result<Read, ChannelError> {
    let (keys, name, epoch) = (&ctx.keys, channel.name.as_str(), scripts::fresh_epoch());
    let since = filter.since.as_ref().map(|since| since.offset);
    let (command, first, last) = match (filter.direction, since) {
        (Direction::Forward, None) => ("XRANGE", "-".to_owned(), "+"),
        (Direction::Forward, Some(offset)) => ("XRANGE", format!("({offset}-0"), "+"),
        (Direction::Reverse, None) => ("XREVRANGE", "+".to_owned(), "-"),
        (Direction::Reverse, Some(offset)) => ("XREVRANGE", format!("({offset}-0"), "-"),
    };
    // Nothing is before the first, and Redis refuses the range.
    let is_empty = (filter.direction, since) == (Direction::Reverse, Some(0));
    let limit = if is_empty { 0 } else { filter.limit.min(HISTORY_READ_MAX) };
    let meta_ttl_s = ctx.settings().channel_layer_group_expiry;
    let (offset, epoch, entries, unsaved_ms): (u64, String, Vec<Entry>, Option<u64>) = scripts::run(ctx, &HISTORY, |cmd| {
        cmd.arg(2).arg(keys.channel_meta(name)).arg(keys.channel_history(name));
        cmd.arg(&epoch).arg(meta_ttl_s).arg(limit).arg(command).arg(&first).arg(last);
    })
    .await?;
    let publications = entries.into_iter().map(Entry::publication).collect::<Result<_, Error>>()?;
    let history = History { publications, position: Position { offset, epoch: epoch.into() } };
    Ok(Read { history, unsaved_ms })
}

/// One entry of the stream: its id, and its fields `b` and `t`.
struct Entry(String, Vec<Vec<u8>>);

impl FromRedisValue for Entry {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        <(String, Vec<Vec<u8>>)>::from_redis_value(value).map(|(id, fields)| Self(id, fields))
    }
}

impl Entry {
    fn publication(self) -> Result<Publication, Error> {
        let broken = |id: &str| Error::internal(format!("the history holds an entry `{id}` that is no publication"));
        let offset = self.0.strip_suffix("-0").and_then(|offset| offset.parse().ok()).ok_or_else(|| broken(&self.0))?;
        let [_, body, _, at_ms] = <[Vec<u8>; 4]>::try_from(self.1).map_err(|_| broken(&self.0))?;
        let published_at_ms = std::str::from_utf8(&at_ms).ok().and_then(|at_ms| at_ms.parse().ok()).ok_or_else(|| broken(&self.0))?;
        Ok(Publication { offset, published_at_ms, body: Bytes::from(body) })
    }
}
