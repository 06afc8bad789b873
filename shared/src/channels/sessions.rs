//! Server-side subscriptions of users: an order reaches the connections that there are, and what it says is remembered for those
//! that come later, on whichever process, for `CHANNEL_SESSION_TTL` after the last of them came.

use super::{
    Addressee, ChannelError, ChannelName, Control, ServerSubscription, control,
    scripts::{self, SESSION_REMEMBER},
};
use crate::{Context, Error};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{collections::HashMap, sync::Arc};

/// Channels that are remembered of one user: above what a connection may have by default.
const CHANNELS_MAX: usize = 1_000;

#[derive(Serialize, Deserialize)]
struct Remembered {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chan_info: Option<Arc<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Arc<RawValue>>,
}

/// Subscribes connections; all of a user's, those to come included, unless one client is named.
pub async fn subscribe(ctx: &Context, to: Addressee, subscription: &ServerSubscription) -> Result<(), ChannelError> {
    if let (Some(user), None) = (&to.user, &to.client) {
        remember(ctx, user, subscription).await?;
    }
    let ServerSubscription { channel, chan_info, data } = subscription.clone();
    control(ctx, &Control::Subscribe { to, channel, chan_info, data }).await
}

/// Ends subscriptions of connections, with what was remembered for those to come.
pub async fn unsubscribe(ctx: &Context, to: Addressee, channel: ChannelName, code: u32, reason: String) -> Result<(), ChannelError> {
    if let (Some(user), None) = (&to.user, &to.client) {
        let mut cmd = redis::cmd("HDEL");
        cmd.arg(ctx.keys.user_subscriptions(user)).arg(channel.as_str()).exec_async(&mut ctx.redis.connection()).await?;
    }
    control(ctx, &Control::Unsubscribe { to, channel, code, reason }).await
}

/// What a connection of `user` that begins now is subscribed to.
pub async fn remembered(ctx: &Context, user: &str) -> Result<Vec<ServerSubscription>, ChannelError> {
    let (key, mut connection) = (ctx.keys.user_subscriptions(user), ctx.redis.connection());
    let mut pipe = redis::pipe();
    pipe.cmd("HGETALL").arg(&key).cmd("EXPIRE").arg(&key).arg(ctx.settings().channel_session_ttl).ignore();
    let (entries,): (HashMap<String, String>,) = pipe.query_async(&mut connection).await?;
    let subscriptions = entries.into_iter().map(|(channel, json)| {
        let Remembered { chan_info, data } = serde_json::from_str(&json).map_err(Error::internal)?;
        Ok(ServerSubscription { channel: ChannelName::new(&channel)?, chan_info, data })
    });
    subscriptions.collect()
}

async fn remember(ctx: &Context, user: &str, subscription: &ServerSubscription) -> Result<(), ChannelError> {
    let remembered = Remembered { chan_info: subscription.chan_info.clone(), data: subscription.data.clone() };
    let json = serde_json::to_string(&remembered).expect("a subscription is plain data");
    let ttl_s = ctx.settings().channel_session_ttl;
    let is_kept: bool = scripts::run(ctx, &SESSION_REMEMBER, |cmd| {
        cmd.arg(1).arg(ctx.keys.user_subscriptions(user)).arg(subscription.channel.as_str()).arg(&json).arg(CHANNELS_MAX).arg(ttl_s);
    })
    .await?;
    if is_kept { Ok(()) } else { Err(ChannelError::LimitExceeded("The user is subscribed to as many channels as can be remembered.")) }
}
