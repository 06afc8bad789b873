//! Redis: one multiplexed connection that heals by itself, and separate ones for what blocks or listens; to one server, to the
//! master that Sentinel names, or to the masters of a cluster.

mod address;
mod cluster;
mod connection;
mod facts;
mod follow;
mod pubsub;
mod route;
mod routed;
mod sentinel;
mod shards;
mod trust;
mod view;
mod wire;

pub(crate) use address::{Address, Node};
pub use connection::Connection;
pub use facts::{Facts, NodeAnswer, NodeFacts, Role, Topology};
pub use pubsub::{PubSub, PubSubSink};
pub(crate) use shards::Shards;
pub(crate) use trust::Trust;
pub(crate) use wire::Wire;

use crate::{
    Error, Result,
    breaker::{Breaker, Miss},
    config::Settings,
};
use cluster::Cluster;
use follow::{Followed, Scout};
use redis::{
    AsyncConnectionConfig, Client, RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use routed::Routed;
use secrecy::ExposeSecret;
use sentinel::Sentinels;
use std::{io, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::timeout};

/// Cheap to clone. Commands of all clones share one connection, which pipelines them.
#[derive(Clone)]
pub struct Redis {
    servers: Servers,
    shared: Connection,
    bulk: Connection,
    /// Of the process, whichever connection finds the server away.
    breaker: Breaker,
    /// Asks whether the server is there, however the breaker stands.
    probe: Arc<Probe>,
    patience: Duration,
}

struct Probe {
    config: ConnectionManagerConfig,
    /// Taken out while it is asked, so that one that does not answer is not asked again.
    connection: Mutex<Option<Connection>>,
}

/// What connections are opened to.
#[derive(Clone)]
enum Servers {
    One(Client, Trust),
    Followed { followed: Followed, topology: Topology },
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
        let patience = Duration::from_millis(settings.redis_acquire_timeout_ms);
        let trust = Trust::of(settings)?;
        let address = Address::parse(settings.redis_url.expose_secret()).map_err(Error::internal)?;
        let address = address.trusting(&trust).map_err(Error::internal)?;
        let servers = match address {
            Address::Server(info) => Servers::One(Client::open(*info).map_err(Error::internal)?, trust),
            Address::Sentinel { sentinels, master, entry } => {
                let sentinels = Sentinels::new(sentinels, master, entry.clone(), patience).map_err(Error::internal)?;
                let followed = Followed::start(Scout::Sentinels(sentinels), entry, trust, patience);
                Servers::Followed { followed, topology: Topology::Sentinel }
            }
            Address::Cluster { seeds, entry } => {
                let cluster = Cluster::new(seeds, entry.clone(), patience);
                Servers::Followed {
                    followed: Followed::start(Scout::Cluster(cluster), entry, trust, patience),
                    topology: Topology::Cluster,
                }
            }
        };
        let breaker = Breaker::new("redis");
        let (shared, bulk) = (servers.connect(settings, &breaker)?, servers.connect(settings, &breaker)?);
        let probe = Arc::new(Probe { config: manager_config(settings), connection: Mutex::default() });
        Ok(Self { shared, bulk, breaker, probe, servers, patience })
    }

    /// The same with shared connections of its own, opened on the runtime that first uses them.
    pub fn with_own_connection(&self, settings: &Settings) -> Result<Self> {
        let connect = || self.servers.connect(settings, &self.breaker);
        Ok(Self { shared: connect()?, bulk: connect()?, ..self.clone() })
    }

    /// The shared connection. A command fails within the response timeout (500 ms) while Redis is away.
    pub fn connection(&self) -> Connection {
        self.shared.clone()
    }

    /// The same for large answers, which would hold up those of everybody behind them. It opens when it is first used.
    pub(crate) fn bulk_connection(&self) -> Connection {
        self.bulk.clone()
    }

    /// A healing connection of its own, for a task whose traffic should not queue behind everyone's.
    pub fn own_connection(&self, settings: &Settings) -> Result<Connection> {
        self.servers.connect(settings, &self.breaker)
    }

    /// The breaker of this process. Behind Sentinel and in a cluster it tells how things stand, and does not hold commands up: there a
    /// master that is away is followed by another.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Whether every master answers, however the breaker stands.
    pub async fn probe(&self) -> Result<(), Miss> {
        let kept = self.probe.connection.lock().await.take();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.servers.connect_with(self.probe.config.clone(), &Breaker::never())?,
        };
        match redis::cmd("PING").exec_async(&mut connection).await {
            Ok(()) => {
                *self.probe.connection.lock().await = Some(connection);
                Ok(())
            }
            Err(error) if error.is_timeout() => Err(Miss::Silence(error.into())),
            Err(error) => Err(Miss::Refusal(error.into())),
        }
    }

    /// A connection that only listens. It ends when its server goes, or is master no more: listen in a loop.
    pub async fn pubsub(&self) -> Result<PubSub> {
        match &self.servers {
            Servers::One(client, _) => Ok(PubSub::to_one(self.listen_to(client).await?)),
            Servers::Followed { followed, .. } => {
                let node = routed::any(&*followed.view().await?)?;
                let server = self.listen_to(&followed.client(&node)?).await.inspect_err(|_| followed.doubt())?;
                Ok(PubSub::to_master(server, followed.clone(), node))
            }
        }
    }

    /// One that hangs still takes connections, and would never answer.
    async fn listen_to(&self, client: &Client) -> RedisResult<redis::aio::PubSub> {
        timeout(self.patience, client.get_async_pubsub()).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    /// A bare connection to a server that is listened to: any master, since in a cluster each hears what is published on another, but
    /// for what is published at a shard ([`Shards::wire`]).
    pub(crate) async fn wire(&self) -> Result<Wire> {
        match &self.servers {
            Servers::One(client, trust) => Wire::open(client, trust, Box::pin(std::future::pending())).await,
            Servers::Followed { followed, .. } => {
                let node = routed::any(&*followed.view().await?)?;
                followed.wire(&node).await
            }
        }
    }

    /// Whether every master answers.
    pub async fn ping(&self) -> Result<()> {
        Ok(redis::cmd("PING").exec_async(&mut self.connection()).await?)
    }
}

impl Servers {
    fn connect(&self, settings: &Settings, breaker: &Breaker) -> Result<Connection> {
        self.connect_with(manager_config(settings), breaker)
    }

    fn connect_with(&self, config: ConnectionManagerConfig, breaker: &Breaker) -> Result<Connection> {
        Ok(match self {
            Self::One(client, _) => {
                let server = ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(Error::internal)?;
                Connection::to_one(server, breaker.clone())
            }
            Self::Followed { followed, .. } => Connection::routed(Routed::new(followed.clone(), config)),
        })
    }
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

/// For those who ask about servers: neither a connection nor an answer is waited for longer.
fn no_answer_within(patience: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(Some(patience))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn probes_do_not_change_what_is_shown_of_the_breaker() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let shown = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let variables = [("DATABASE_URL", "postgres://localhost"), ("REDIS_URL", "redis://127.0.0.1:1")];
                let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let settings = Settings::load(&Layers::new(variables, &[]).unwrap()).unwrap();
                let redis = Redis::open(&settings).unwrap();
                let watching = redis.breaker().clone().watch(redis.patience, || redis.probe());
                tokio::select! {
                    () = watching => unreachable!("it never ends"),
                    () = redis.breaker().opened() => {}
                }
                redis.probe().await.unwrap_err();
            });
        });
        assert!(shown.render().contains("breaker_state{target=\"redis\"} 2"), "{}", shown.render());
    }
}
