//! Who is subscribed to a channel: clients, and how many users they are. Every process refreshes its own; whoever is not refreshed
//! is gone, and that is told like any other leave.

mod listing;

pub use listing::{PresenceList, PresenceLists, list};

use super::{
    Channel, ChannelError, ClientInfo, Offer,
    scripts::{self, PRESENCE_JOIN, PRESENCE_LEAVE, PRESENCE_REFRESH, PRESENCE_STATS, Script},
};
use crate::Context;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use redis::{Cmd, FromRedisValue};
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// A client that is not refreshed for so long is gone. `WS_PRESENCE_REFRESH_S` is less than half of it, so that one call that
/// fails takes nobody out.
pub const PRESENCE_TTL: Duration = Duration::from_secs(60);

/// Longest list that is told, in clients and in bytes of their ids and infos: it goes out in one frame, and tokens may bring infos of any
/// size. Stats are told of any number.
pub const PRESENCE_LIST_MAX: usize = 5_000;
pub const PRESENCE_LIST_BYTES_MAX: usize = 4 << 20;
/// Clients in one call, and channels whose calls are on the way at once.
const CLIENTS_MAX: usize = 500;
const CHANNELS_AT_ONCE: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PresenceStats {
    pub num_clients: u64,
    pub num_users: u64,
}

/// Notes that a client is subscribed, and announces it where the namespace has joins. Nothing for namespaces without presence.
pub async fn join(ctx: &Context, channel: &Channel, info: &ClientInfo) -> Result<(), ChannelError> {
    join_all(ctx, channel, std::slice::from_ref(info)).await
}

/// The same for many.
pub async fn join_all(ctx: &Context, channel: &Channel, infos: &[ClientInfo]) -> Result<(), ChannelError> {
    for infos in infos.chunks(CLIENTS_MAX).filter(|_| channel.namespace.presence) {
        call::<()>(ctx, &PRESENCE_JOIN, channel, |cmd| {
            for info in infos {
                cmd.arg(&*info.client).arg(format!("{}:{}{}", info.user.len(), info.user, info.to_json()));
            }
        })
        .await?;
    }
    Ok(())
}

/// Notes that a client is no longer subscribed, and announces it likewise.
pub async fn leave(ctx: &Context, channel: &Channel, client: &str) -> Result<(), ChannelError> {
    leave_all(ctx, channel, &[client.into()]).await
}

/// The same for many, as when a process drains.
pub async fn leave_all(ctx: &Context, channel: &Channel, clients: &[Arc<str>]) -> Result<(), ChannelError> {
    for clients in clients.chunks(CLIENTS_MAX).filter(|_| channel.namespace.presence) {
        call::<()>(ctx, &PRESENCE_LEAVE, channel, |cmd| with_clients(cmd, clients)).await?;
    }
    Ok(())
}

/// Keeps clients present. Gives those that Redis has forgotten: they have to join again, unless they have left meanwhile.
pub async fn refresh(ctx: &Context, present: &[(Channel, Vec<Arc<str>>)]) -> Result<Vec<(Channel, Vec<String>)>, ChannelError> {
    let with_presence = present.iter().filter(|(channel, _)| channel.namespace.presence);
    let batches = with_presence.flat_map(|(channel, clients)| clients.chunks(CLIENTS_MAX).map(move |clients| (channel, clients)));
    let calls = stream::iter(batches).map(async |(channel, clients)| {
        let forgotten: Vec<String> = call(ctx, &PRESENCE_REFRESH, channel, |cmd| with_clients(cmd, clients)).await?;
        Ok((channel.clone(), forgotten))
    });
    let forgotten = calls.buffer_unordered(CHANNELS_AT_ONCE).try_filter(|(_, clients)| future::ready(!clients.is_empty()));
    forgotten.try_collect().await
}

/// How many are present. Counted as they come and go, so that it costs the same in any channel.
pub async fn stats(ctx: &Context, channel: &Channel) -> Result<PresenceStats, ChannelError> {
    offered(channel)?;
    let (num_clients, num_users) = call(ctx, &PRESENCE_STATS, channel, |_| ()).await?;
    Ok(PresenceStats { num_clients, num_users })
}

fn offered(channel: &Channel) -> Result<(), ChannelError> {
    if channel.namespace.presence { Ok(()) } else { Err(ChannelError::NotAvailable) }
}

fn with_clients(cmd: &mut Cmd, clients: &[Arc<str>]) {
    for client in clients {
        cmd.arg(&**client);
    }
}

async fn call<T: FromRedisValue>(ctx: &Context, script: &Script, channel: &Channel, fill: impl Fn(&mut Cmd)) -> Result<T, ChannelError> {
    let name = channel.name.as_str();
    let told_on = if channel.namespace.join_leave == Offer::Off { String::new() } else { ctx.keys.channel(name) };
    scripts::run(ctx, script, |cmd| {
        cmd.arg(3)
            .arg(&ctx.keys.channel_presence(name))
            .arg(&told_on)
            .arg(ctx.redis.publish_verb())
            .arg(PRESENCE_TTL.as_millis().to_string());
        fill(cmd);
    })
    .await
}
