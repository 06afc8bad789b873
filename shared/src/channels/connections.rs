//! How many connections a user has, over all processes.

use super::{
    ChannelError,
    scripts::{self, CONNECTIONS_ENTER},
};
use crate::Context;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::{sync::Arc, time::Duration};

/// A connection that is not refreshed for so long is gone.
pub const CONNECTION_TTL: Duration = Duration::from_secs(60);
/// How often connections have to be refreshed.
pub const CONNECTION_REFRESH_EVERY: Duration = Duration::from_secs(25);
/// Calls that are on the way at once.
const USERS_AT_ONCE: usize = 128;

/// Whether a user may have one more connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    Entered,
    /// There are as many already as there may be.
    Full,
}

/// Counts a connection in, unless the user has `connections_max` already. One that is counted in stays so.
pub async fn enter(ctx: &Context, user: &str, client: &str, connections_max: usize) -> Result<Entry, ChannelError> {
    let entered: bool = scripts::run(ctx, &CONNECTIONS_ENTER, |cmd| {
        cmd.arg(1).arg(ctx.keys.user_connections(user)).arg(client).arg(ttl_ms()).arg(connections_max);
    })
    .await?;
    Ok(if entered { Entry::Entered } else { Entry::Full })
}

/// Keeps connections counted, each under its user. None is refused: those that Redis forgot are counted in again.
pub async fn refresh(ctx: &Context, connections: &[(Arc<str>, Arc<str>)]) -> Result<(), ChannelError> {
    let calls = stream::iter(connections).map(async |(user, client)| enter(ctx, user, client, usize::MAX >> 1).await.map(drop));
    calls.buffer_unordered(USERS_AT_ONCE).try_collect().await
}

/// Counts connections out.
pub async fn leave(ctx: &Context, connections: &[(Arc<str>, Arc<str>)]) -> Result<(), ChannelError> {
    let calls = stream::iter(connections).map(async |(user, client)| {
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(ctx.keys.user_connections(user)).arg(&**client);
        Ok(cmd.exec_async(&mut ctx.redis.connection()).await?)
    });
    calls.buffer_unordered(USERS_AT_ONCE).try_collect().await
}

fn ttl_ms() -> String {
    CONNECTION_TTL.as_millis().to_string()
}
