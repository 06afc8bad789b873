//! What happens to jobs, queues and tracks is told only while somebody listens: the process says which ones it does.

use futures_util::{StreamExt, stream};
use shared::{
    Context,
    channels::{Audience, Channel, ChannelName},
    jobs::events,
    points::live,
};

/// Jobs and tracks that are looked up at the same time.
const AT_ONCE: usize = 32;

/// Those of `channels` that are of jobs, queues or tracks are told about when this returns. One that cannot be, because it is gone or a
/// server is away, is silent: its subscribers hear of it by reading the job.
pub(super) async fn follow(ctx: &Context, channels: &[ChannelName]) {
    let each = stream::iter(followed(ctx, channels)).for_each_concurrent(AT_ONCE, async |channel| {
        let followed = match channel.namespace.audience {
            Audience::Track => live::follow(ctx, &channel).await,
            Audience::Job | Audience::Queue | Audience::Open | Audience::Personal => events::follow(ctx, &channel).await,
        };
        if let Err(error) = followed {
            tracing::debug!(%error, channel = %channel.name, "what happens there is not told");
        }
    });
    each.await;
}

pub(super) fn unfollow(ctx: &Context, channels: &[ChannelName]) {
    followed(ctx, channels).for_each(|channel| match channel.namespace.audience {
        Audience::Track => live::unfollow(ctx, &channel),
        Audience::Job | Audience::Queue | Audience::Open | Audience::Personal => events::unfollow(ctx, &channel),
    });
}

fn followed(ctx: &Context, channels: &[ChannelName]) -> impl Iterator<Item = Channel> {
    let resolved = channels.iter().filter_map(|name| ctx.namespaces.resolve(name.as_str()).ok());
    resolved.filter(|channel| match channel.namespace.audience {
        Audience::Job | Audience::Queue | Audience::Track => true,
        Audience::Open | Audience::Personal => false,
    })
}
