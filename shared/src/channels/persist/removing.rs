//! Forgetting what is kept of a channel, wherever it is.

use super::store;
use crate::{
    Context,
    channels::{
        Channel, ChannelError,
        scripts::{self, HISTORY_REMOVE},
    },
};

/// Rows of one statement: each stays far below the time that a statement may take.
const ROWS_AT_ONCE: i64 = 5_000;

/// Removes from Redis, then from PostgreSQL. What was published later stays. After an error some may be left: repeat it.
///
/// A process that saves at this moment may have read what is removed from Redis here. It looks whether that is still there once it holds
/// the lock that is waited for here: so it has either written before the rows are deleted, or writes nothing of it.
pub(in crate::channels) async fn remove(ctx: &Context, channel: &Channel) -> Result<(), ChannelError> {
    let (keys, name) = (&ctx.keys, channel.name.as_str());
    let (offset, epoch): (i64, String) = scripts::run(ctx, &HISTORY_REMOVE, |cmd| {
        cmd.arg(3).arg(keys.channel_meta(name)).arg(keys.channel_history(name)).arg(keys.channel_unsaved(name));
    })
    .await?;
    store::await_savers(&ctx.pg).await?;
    while store::delete_up_to(&ctx.pg, name, (&epoch, offset), ROWS_AT_ONCE).await? > 0 {}
    Ok(())
}
