//! Persisted channels: what is published on them is written to PostgreSQL as well, and read from there when Redis has let it go.
//!
//! The script that publishes also writes to a stream of the channel, `unsaved`: in the same slot and the same step, so that what was
//! accepted is in it. `saving` moves it into the table, and removes it from the stream only afterwards; rows are known by channel,
//! epoch and offset, so that doing it twice adds nothing. Which channels have such a stream is known from an index, where a channel
//! is registered before anything is published on it. `reading` joins what Redis keeps, what is unsaved and what is in the table, and
//! `removing` removes from all three.

mod reading;
mod removing;
mod saving;
mod store;

pub use reading::{ArchiveCursor, Archived, archive};
pub use saving::{Cursor, keep_house, save};

pub(super) use reading::complete;
pub(super) use removing::remove;

use super::{ChannelError, ChannelName};
use crate::{Context, clock::unix_ms};
use quick_cache::sync::Cache;
use std::time::Duration;

/// A process says again that a channel is published on after this, as long as it is.
const REGISTER_EVERY: Duration = Duration::from_secs(30);
/// Channels that a process remembers to have registered; others are registered each time.
const REGISTERED_MAX: usize = 10_000;

/// The channels that this process has registered lately, and when.
#[derive(Debug)]
pub struct Registered(Cache<ChannelName, i64>);

impl Default for Registered {
    fn default() -> Self {
        Self(Cache::new(REGISTERED_MAX))
    }
}

/// Makes sure that the channel is looked at when publications are saved.
pub(super) async fn register(ctx: &Context, channel: &ChannelName) -> Result<(), ChannelError> {
    let now_ms = unix_ms(ctx.clock.now());
    let since_ms = i64::try_from(REGISTER_EVERY.as_millis()).expect("half a minute in milliseconds");
    if ctx.registered.0.get(channel).is_some_and(|at_ms| (now_ms - since_ms..=now_ms).contains(&at_ms)) {
        return Ok(());
    }
    let mut cmd = redis::cmd("ZADD");
    cmd.arg(ctx.keys.channels_unsaved()).arg("GT").arg(now_ms).arg(channel.as_str());
    cmd.exec_async(&mut ctx.redis.connection()).await?;
    ctx.registered.0.insert(channel.clone(), now_ms);
    Ok(())
}

#[cfg(test)]
mod tests;
