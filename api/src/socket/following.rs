//! What happens to jobs and queues is told only while somebody listens: the process says which ones it does.

use futures_util::{StreamExt, stream};
use shared::{
    Context,
    channels::{Audience, Channel, ChannelName},
    jobs::events,
};

/// Jobs that are looked up at the same time.
const AT_ONCE: usize = 32;

/// Those of `channels` that are of jobs or queues are told about when this returns. One that cannot be, because it is gone or a
/// server is away, is silent: its subscribers hear of it by reading the job.
pub(super) async fn follow(ctx: &Context, channels: &[ChannelName]) {
    let each = stream::iter(followed(ctx, channels)).for_each_concurrent(AT_ONCE, async |channel| {
        if let Err(error) = events::follow(ctx, &channel).await {
            tracing::debug!(%error, channel = %channel.name, "what happens there is not told");
        }
    });
    each.await;
}

pub(super) fn unfollow(ctx: &Context, channels: &[ChannelName]) {
    followed(ctx, channels).for_each(|channel| events::unfollow(ctx, &channel));
}

fn followed(ctx: &Context, channels: &[ChannelName]) -> impl Iterator<Item = Channel> {
    let resolved = channels.iter().filter_map(|name| ctx.namespaces.resolve(name.as_str()).ok());
    resolved.filter(|channel| match channel.namespace.audience {
        Audience::Job | Audience::Queue => true,
        Audience::Open | Audience::Personal => false,
    })
}
