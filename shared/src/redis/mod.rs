//! Redis: one multiplexed connection that heals by itself, and separate ones for what blocks or listens.

mod connection;
mod pubsub;
mod wire;

pub use connection::Connection;
pub use pubsub::{PubSub, PubSubSink};
pub(crate) use wire::Wire;

use crate::{Error, Result, config::Settings};
use redis::{
    Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use secrecy::ExposeSecret;
use std::time::Duration;

/// Cheap to clone. Commands of all clones share one connection, which pipelines them.
#[derive(Clone)]
pub struct Redis {
    client: Client,
    shared: Connection,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client's own form would show the password of the URL.
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects at first use; must be called inside a tokio runtime.
    pub fn open(settings: &Settings) -> Result<Self> {
        let client = Client::open(settings.redis_url.expose_secret()).map_err(Error::internal)?;
        let shared = connect(&client, settings)?;
        Ok(Self { client, shared })
    }

    /// The shared connection. A command fails within the response timeout (500 ms) while Redis is away.
    pub fn connection(&self) -> Connection {
        self.shared.clone()
    }

    /// A healing connection of its own, for a task whose traffic should not queue behind everyone's.
    pub fn own_connection(&self, settings: &Settings) -> Result<Connection> {
        connect(&self.client, settings)
    }

    /// A connection that only listens. It ends when Redis goes: listen in a loop.
    pub async fn pubsub(&self) -> Result<PubSub> {
        Ok(PubSub::new(self.client.get_async_pubsub().await?))
    }

    /// A bare connection to the server that is listened to.
    pub(crate) async fn wire(&self) -> Result<Wire> {
        Wire::open(&self.client, Box::pin(std::future::pending())).await
    }

    pub async fn ping(&self) -> Result<()> {
        Ok(redis::cmd("PING").exec_async(&mut self.connection()).await?)
    }

    /// `maxmemory-policy` and `redis_version` of the server. Anything but `noeviction` may drop jobs when memory runs out.
    pub async fn server_facts(&self) -> Result<(String, String)> {
        let info: redis::InfoDict = redis::cmd("INFO").arg("everything").query_async(&mut self.connection()).await?;
        let text = |name| info.get::<String>(name).unwrap_or_else(|| "unknown".to_owned());
        Ok((text("maxmemory_policy"), text("redis_version")))
    }
}

fn connect(client: &Client, settings: &Settings) -> Result<Connection> {
    let manager = ConnectionManager::new_lazy_with_config(client.clone(), manager_config(settings)).map_err(Error::internal)?;
    Ok(Connection::new(manager))
}

fn manager_config(settings: &Settings) -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(500))
        .set_connection_timeout(Some(Duration::from_millis(settings.redis_acquire_timeout_ms)))
        .set_response_timeout(Some(Duration::from_millis(settings.redis_acquire_timeout_ms)))
        .set_concurrency_limit(4_096)
}
