//! A connection that only listens. It ends when its server goes, or is no longer the one to listen to: listen in a loop.

use futures_util::Stream;
use redis::{Msg, RedisResult, ToRedisArgs, aio};

/// Messages that are not taken wait in memory: take them as fast as they come.
pub struct PubSub(aio::PubSub);

/// Half of a [`PubSub`]: subscribes while the other half is listened to.
#[derive(Debug, Clone)]
pub struct PubSubSink(aio::PubSubSink);

impl std::fmt::Debug for PubSub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PubSub").finish_non_exhaustive()
    }
}

impl PubSub {
    pub(super) const fn new(server: aio::PubSub) -> Self {
        Self(server)
    }

    /// Returns once the server has confirmed it.
    pub async fn subscribe(&mut self, channels: impl ToRedisArgs) -> RedisResult<()> {
        self.0.subscribe(channels).await
    }

    pub fn on_message(&mut self) -> impl Stream<Item = Msg> + Unpin + '_ {
        Box::pin(self.0.on_message())
    }

    pub fn into_on_message(self) -> impl Stream<Item = Msg> + Unpin + 'static {
        Box::pin(self.0.into_on_message())
    }

    pub fn split(self) -> (PubSubSink, impl Stream<Item = Msg> + Unpin + 'static) {
        let (sink, stream) = self.0.split();
        (PubSubSink(sink), Box::pin(stream))
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
