//! Which channels somebody is subscribed to, over all processes.

use super::{Channel, ChannelName, presence};
use crate::{
    Caller, Context, Result, Role, Scope,
    page::{Page, PageRequest},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use utoipa::ToSchema;

/// Channels of one page whose connections are counted at the same time.
const COUNTED_AT_ONCE: usize = 32;

/// A channel that somebody is subscribed to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ActiveChannel {
    #[schema(value_type = String, example = "chat:lobby")]
    pub name: ChannelName,
    /// Connections that are subscribed; `null` where the namespace keeps no presence.
    #[schema(required)]
    pub num_clients: Option<u64>,
}

/// Those by name, for operators.
pub async fn list(ctx: &Context, caller: &Caller, request: &PageRequest<String>) -> Result<Page<ActiveChannel>> {
    caller.require(Scope::ChannelsRead)?;
    caller.require_role(Role::Operator)?;
    let is_after = |channel: &Channel| request.before.as_ref().is_none_or(|before| channel.name.as_str() > before.as_str());
    let wanted = usize::try_from(request.fetch()).unwrap_or(usize::MAX);
    let channels = active(ctx, "*").await?.into_iter().filter(is_after).take(wanted);
    let page = Page::from_rows(channels.collect(), request, |channel: &Channel| channel.name.as_str().to_owned());
    Ok(Page { items: counted(ctx, page.items).await?, next_cursor: page.next_cursor })
}

/// Those whose name matches `pattern` (`*` any text, `?` one character, `[ab]` one of these), with their connections.
pub async fn matching(ctx: &Context, pattern: &str) -> Result<Vec<ActiveChannel>> {
    counted(ctx, active(ctx, pattern).await?).await
}

/// In the order of their names.
async fn active(ctx: &Context, pattern: &str) -> Result<Vec<Channel>> {
    let mut cmd = redis::cmd("PUBSUB");
    cmd.arg(ctx.redis.list_verb()).arg(ctx.keys.channel(pattern));
    let names: Vec<String> = cmd.query_async(&mut ctx.redis.connection()).await?;
    let channels = names.iter().filter_map(|name| ctx.namespaces.resolve(ctx.keys.channel_of(name)?).ok());
    let mut channels: Vec<Channel> = channels.collect();
    channels.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    // Each server of a cluster names those of its own subscribers.
    channels.dedup_by(|a, b| a.name == b.name);
    Ok(channels)
}

async fn counted(ctx: &Context, channels: Vec<Channel>) -> Result<Vec<ActiveChannel>> {
    let counting = channels.into_iter().map(|channel| async move {
        let num_clients = match channel.namespace.presence {
            true => Some(presence::stats(ctx, &channel).await?.num_clients),
            false => None,
        };
        Ok(ActiveChannel { name: channel.name, num_clients })
    });
    stream::iter(counting).buffered(COUNTED_AT_ONCE).try_collect().await
}
