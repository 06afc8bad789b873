//! Reading what is kept of a channel, and where it stands.

use super::{
    Channel, ChannelError, Position, Publication, Reader, persist,
    scripts::{self, HISTORY},
    turns::{Asker, Turn},
};
use crate::{Context, Error, redis::Connection};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::FromRedisValue;
use std::time::Duration;

/// Most publications in one answer, and the most that a client catches up with in one step.
pub const HISTORY_READ_MAX: u32 = 300;

/// Bodies of one answer, together: it ends with the publication before the one that passes this, and the reader goes on from there.
pub(super) const HISTORY_READ_BYTES: usize = 1 << 20;

/// An answer up to this is read in one of many turns. For a larger one there are few ([`turns`](super::turns)).
pub(super) const SMALL_BYTES: usize = 16 << 10;

/// Publications that a script reads at a time come to no more than this, however large those are that their channel allows.
const SLICE_BYTES: usize = 512 << 10;

/// The position of a channel that nothing is published on is kept for so long after somebody last asked for it, as its subscribers do
/// all the time: whoever asks for names alone fills nothing.
const UNPUBLISHED_KEPT_FOR: Duration = Duration::from_mins(10);

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
    /// Redis has more of what was asked for than went into the answer.
    pub(super) is_cut: bool,
}

/// How much of what a filter names is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// What there is of it, as far as an answer goes.
    Part,
    /// All of it, or nothing.
    Whole,
}

/// What is to be read.
#[derive(Debug, Clone, Copy)]
struct What<'a> {
    channel: &'a Channel,
    filter: &'a Filter,
    extent: Extent,
}

/// What is kept of a channel, in PostgreSQL too if it is persisted, as far as one answer goes. `UnrecoverablePosition` when `since` is
/// of another epoch, or comes after all there is; publications that are no longer kept are simply not there.
pub async fn history(ctx: &Context, reader: &Reader, channel: &Channel, filter: &Filter) -> Result<History, ChannelError> {
    if channel.namespace.history.is_none() {
        return Err(ChannelError::NotAvailable);
    }
    let asker = Asker::now(reader);
    let read = read(ctx, asker, What { channel, filter, extent: Extent::Part }).await?;
    let position = &read.history.position;
    let is_lost =
        |since: &Position| !since.counts_in(&position.epoch) || (filter.direction == Direction::Forward && since.offset > position.offset);
    if filter.since.as_ref().is_some_and(is_lost) {
        return Err(ChannelError::UnrecoverablePosition);
    }
    if channel.namespace.persist { persist::complete(ctx, asker, (channel, filter), read).await } else { Ok(read.history) }
}

/// What a subscriber that was at `since` has missed, for [`begin`](super::recovery::begin): only what Redis keeps, so that coming
/// back costs the same in a persisted channel. Nothing when it is too much for one answer, or in another epoch.
pub async fn missed(ctx: &Context, reader: &Reader, channel: &Channel, since: &Position) -> Result<History, ChannelError> {
    if channel.namespace.history.is_none() {
        return Err(ChannelError::NotAvailable);
    }
    let filter = Filter { limit: HISTORY_READ_MAX, since: Some(since.clone()), direction: Direction::Forward };
    Ok(read(ctx, Asker::now(reader), What { channel, filter: &filter, extent: Extent::Whole }).await?.history)
}

/// Where the channel stands.
pub async fn position(ctx: &Context, reader: &Reader, channel: &Channel) -> Result<Position, ChannelError> {
    Ok(history(ctx, reader, channel, &Filter::default()).await?.position)
}

/// The same of many channels, in their order; of one that keeps no history it is `None`.
pub async fn positions(ctx: &Context, reader: &Reader, channels: &[Channel]) -> Result<Vec<Option<Position>>, ChannelError> {
    let each = stream::iter(channels).map(async |channel| match position(ctx, reader, channel).await {
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

/// Reads an answer that may be large only when it is its turn among those, and finds that out for little.
async fn read(ctx: &Context, asker: Asker<'_>, what: What<'_>) -> Result<Read, ChannelError> {
    let turn = ctx.history_turns.small.take(asker).await?;
    let read = read_up_to(ctx, (turn, ctx.redis.connection()), what, (SMALL_BYTES, Extent::Whole)).await?;
    if !read.is_cut {
        return Ok(read);
    }
    let turn = ctx.history_turns.large.take(asker).await?;
    read_up_to(ctx, (turn, ctx.redis.bulk_connection()), what, (HISTORY_READ_BYTES, what.extent)).await
}

/// Where it is more than `bytes`, `extent` of that.
async fn read_up_to(
    ctx: &Context,
    (turn, connection): (Turn, Connection),
    what: What<'_>,
    (bytes, extent): (usize, Extent),
) -> Result<Read, ChannelError> {
    let What { channel, filter, .. } = what;
    let (keys, name, fresh_epoch) = (&ctx.keys, channel.name.as_str(), scripts::fresh_epoch());
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
    let epoch = filter.since.as_ref().map_or("", |since| &since.epoch);
    let whole_since = since.filter(|_| what.extent == Extent::Whole).map(|offset| offset.to_string()).unwrap_or_default();
    let meta_ttl_s = ctx.settings().channel_layer_group_expiry;
    let (found, _turn) = scripts::run_in::<Found>(turn, connection, &HISTORY, |cmd| {
        cmd.arg(2).arg(keys.channel_meta(name)).arg(keys.channel_history(name));
        cmd.arg(&fresh_epoch).arg(meta_ttl_s).arg(UNPUBLISHED_KEPT_FOR.as_secs().min(meta_ttl_s));
        cmd.arg(limit).arg(bytes).arg(command).arg(&first).arg(last).arg(epoch).arg(&whole_since);
        cmd.arg(slice(channel)).arg(u8::from(extent == Extent::Whole));
    })
    .await?;
    let (offset, epoch, entries, unsaved_ms, is_cut) = found;
    let mut publications = entries.into_iter().map(Entry::publication).collect::<Result<_, Error>>()?;
    cut(&mut publications, bytes);
    Ok(Read { history: History { publications, position: Position { offset, epoch: epoch.into() } }, unsaved_ms, is_cut })
}

/// Publications of a channel that a script reads at a time, at most.
pub(super) fn slice(channel: &Channel) -> usize {
    (SLICE_BYTES / channel.namespace.publication_max_bytes).max(1)
}

/// Leaves the first publications whose bodies come to no more than `bytes`, but one at least.
pub(super) fn cut(publications: &mut Vec<Publication>, bytes: usize) {
    publications.truncate(n_within(publications.iter().map(|publication| publication.body.len()), bytes));
}

/// How many of the first sizes come to no more than `bytes` together; one at least.
pub(super) fn n_within(sizes: impl Iterator<Item = usize>, bytes: usize) -> usize {
    let mut total = 0;
    let fits = |size: &usize| {
        total += size;
        total <= bytes
    };
    sizes.take_while(fits).count().max(1)
}

/// What the script returns, in its order.
type Found = (u64, String, Vec<Entry>, Option<u64>, bool);

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
