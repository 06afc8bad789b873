//! Orders for connections, announced to every process over pub/sub.

use super::{ChannelError, Control};
use crate::Context;

/// Announces an order. Processes that listen carry it out; one that has just lost its connection to Redis does not hear it, so
/// that what must never be missed (a revoked session) is also looked up elsewhere.
pub async fn control(ctx: &Context, order: &Control) -> Result<(), ChannelError> {
    let payload = serde_json::to_vec(order).expect("an order is plain data");
    let mut cmd = redis::cmd("PUBLISH");
    Ok(cmd.arg(ctx.keys.channels_control()).arg(payload).exec_async(&mut ctx.redis.connection()).await?)
}
