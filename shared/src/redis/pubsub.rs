//! A connection that only listens. It ends when its server goes, or is master no more: listen in a loop.

use super::{
    address::Node,
    follow::{Followed, no_master},
};
use futures_util::{
    Stream, StreamExt,
    future::{BoxFuture, FutureExt, pending},
};
use redis::{Msg, RedisResult, ToRedisArgs, aio};

/// Messages that are not taken wait in memory: take them as fast as they come.
///
/// In a cluster a message that is published on one node is heard on all, so that it does not matter which one this listens to.
pub struct PubSub {
    server: aio::PubSub,
    watched: Option<(Followed, Node)>,
}

/// Half of a [`PubSub`]: subscribes while the other half is listened to.
#[derive(Debug, Clone)]
pub struct PubSubSink(aio::PubSubSink);

impl std::fmt::Debug for PubSub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PubSub").finish_non_exhaustive()
    }
}

impl PubSub {
    pub(super) const fn to_one(server: aio::PubSub) -> Self {
        Self { server, watched: None }
    }

    pub(super) const fn to_master(server: aio::PubSub, followed: Followed, node: Node) -> Self {
        Self { server, watched: Some((followed, node)) }
    }

    /// Returns once the server has confirmed it.
    pub async fn subscribe(&mut self, channels: impl ToRedisArgs) -> RedisResult<()> {
        tokio::select! {
            subscribed = self.server.subscribe(channels) => subscribed,
            () = left(self.watched.clone()) => Err(no_master("the server that was to be listened to is master no more")),
        }
    }

    pub fn on_message(&mut self) -> impl Stream<Item = Msg> + Unpin + '_ {
        let left = left(self.watched.clone());
        Box::pin(self.server.on_message().take_until(left))
    }

    pub fn into_on_message(self) -> impl Stream<Item = Msg> + Unpin + 'static {
        Box::pin(self.server.into_on_message().take_until(left(self.watched)))
    }

    pub fn split(self) -> (PubSubSink, impl Stream<Item = Msg> + Unpin + 'static) {
        let (sink, stream) = self.server.split();
        (PubSubSink(sink), Box::pin(stream.take_until(left(self.watched))))
    }
}

impl PubSubSink {
    pub async fn subscribe(&mut self, channels: impl ToRedisArgs) -> RedisResult<()> {
        self.0.subscribe(channels).await
    }

    pub async fn unsubscribe(&mut self, channels: impl ToRedisArgs) -> RedisResult<()> {
        self.0.unsubscribe(channels).await
    }

    pub async fn ping(&mut self) -> RedisResult<()> {
        self.0.ping::<redis::Value>().await.map(drop)
    }
}

/// Ends when the server that is listened to is master no more.
fn left(watched: Option<(Followed, Node)>) -> BoxFuture<'static, ()> {
    match watched {
        Some((followed, node)) => async move { followed.left(&node).await }.boxed(),
        None => pending().boxed(),
    }
}
