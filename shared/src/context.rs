//! What an operation is given to work with: the settings, both servers, the names in Redis, and time.

use crate::{
    Result,
    breaker::Breaker,
    channels::{Namespaces, Turns, persist::Registered},
    clock::Clock,
    config::Settings,
    files::{LocalFiles, Storage},
    jobs::{LocalJobs, LookupBatch},
    keys::Keys,
    outbound::{Guard, Outbound},
    pg,
    points::LocalPoints,
    redis::Redis,
};
use arc_swap::ArcSwap;
use sqlx::PgPool;
use std::sync::Arc;

/// Redis connections of a process that are no worker thread's: the shared one, that for large answers, three that listen, and a spare
/// for probes.
const CONNECTIONS_BESIDE: usize = 6;
/// Those of a worker thread: its own, and one for large answers.
const CONNECTIONS_OF_WORKER: usize = 2;
/// PostgreSQL connections of a process that does no jobs and answers no requests, at most.
const SPARE_CONNECTIONS: u32 = 2;

/// Cheap to clone; one per process, handed down to every operation.
#[derive(Debug, Clone)]
pub struct Context {
    settings: Arc<ArcSwap<Settings>>,
    pub pg: PgPool,
    /// Open while PostgreSQL is away, in processes that watch it.
    pub pg_breaker: Breaker,
    pub redis: Redis,
    pub keys: Keys,
    /// The rules of channels; a reload does not change them.
    pub namespaces: Namespaces,
    pub clock: Clock,
    pub jobs: Arc<LocalJobs>,
    /// Persisted channels that this process has published on lately.
    pub registered: Arc<Registered>,
    /// Whose turn it is to read large answers of history.
    pub history_turns: Arc<Turns>,
    pub lookups: Arc<LookupBatch>,
    pub points: Arc<LocalPoints>,
    pub files: Arc<LocalFiles>,
    /// Where the contents of files are.
    pub storage: Storage,
    /// HTTP to the outside.
    pub outbound: Outbound,
}

impl Context {
    /// Opens pools lazily: it succeeds with both servers down, and readiness tells the rest.
    /// Call it inside the runtime that lives as long as the process.
    pub fn open(settings: Settings) -> Result<Self> {
        let pg = pg::open_pool(&settings)?;
        Self::with_pool(settings, pg)
    }

    /// The same for a process that rarely has anything to ask: no connection until it is needed, and few.
    pub fn open_spare(settings: Settings) -> Result<Self> {
        let pg = pg::open_spare_pool(&settings, SPARE_CONNECTIONS)?;
        Self::with_pool(settings, pg)
    }

    /// The same for a process of which there are many and often new ones: no connection until it is needed.
    pub fn open_lazily(settings: Settings) -> Result<Self> {
        let pg = pg::open_spare_pool(&settings, settings.db_pool_max())?;
        Self::with_pool(settings, pg)
    }

    fn with_pool(settings: Settings, pg: PgPool) -> Result<Self> {
        let redis = Redis::open(&settings)?;
        let keys = Keys::new(&settings.redis_prefix);
        let namespaces = settings.namespaces.clone();
        let outbound = Outbound::new(Guard::new(&settings.outbound_allow));
        let jobs = Arc::new(LocalJobs::new(&settings, &pg, &redis));
        let (files, storage) = (Arc::new(LocalFiles::new(&settings)), Storage::new(&settings));
        Ok(Self {
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            pg,
            pg_breaker: Breaker::new("postgres"),
            redis,
            keys,
            namespaces,
            clock: Clock::default(),
            jobs,
            registered: Arc::default(),
            history_turns: Arc::default(),
            lookups: Arc::default(),
            points: Arc::default(),
            files,
            storage,
            outbound,
        })
    }

    /// The same with connections of its own: a worker thread that polls its own sockets wakes no other thread. The pool's
    /// size is dealt out over `n_workers`.
    pub fn for_worker(&self, n_workers: usize) -> Result<Self> {
        let settings = self.settings();
        let pg = pg::open_worker_pool(&settings, n_workers)?;
        // Where connections are few, the threads share the process's one.
        let own = settings.redis_max_connections >= CONNECTIONS_OF_WORKER * n_workers + CONNECTIONS_BESIDE;
        let redis = if own { self.redis.with_own_connection(&settings)? } else { self.redis.clone() };
        Ok(Self { pg, redis, lookups: Arc::default(), storage: self.storage.for_runtime(), ..self.clone() })
    }

    /// The same with the connections of the process, for work that outlives the worker thread it began on.
    #[must_use]
    pub fn for_process(&self) -> Self {
        let (pg, redis) = self.jobs.process_connections();
        Self { pg, redis, lookups: Arc::default(), ..self.clone() }
    }

    /// The same with connections of its own, for work on a runtime whose threads may be blocked: a connection that such a
    /// thread polls would hold up everybody who shares it. Call it inside that runtime.
    pub fn for_handlers(&self) -> Result<Self> {
        let settings = self.settings();
        let pg = pg::open_spare_pool(&settings, settings.db_pool_max())?;
        let (redis, storage) = (self.redis.with_own_connection(&settings)?, self.storage.for_runtime());
        Ok(Self { pg, redis, lookups: Arc::default(), storage, ..self.clone() })
    }

    /// The settings as they stand now; hold the guard briefly, a reload replaces what is behind it.
    pub fn settings(&self) -> arc_swap::Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Takes over what may change while running; the rest of `fresh` is ignored until a restart.
    pub fn reload(&self, fresh: &Settings) {
        let mut settings = Settings::clone(&self.settings());
        settings.take_reloadable(fresh);
        self.settings.store(Arc::new(settings));
    }
}

#[cfg(test)]
mod tests {
    use crate::{Context, testing::TestStores};

    async fn client_id(ctx: &Context) -> i64 {
        redis::cmd("CLIENT").arg("ID").query_async(&mut ctx.redis.connection()).await.expect("Redis answers")
    }

    #[tokio::test]
    async fn worker_threads_share_a_redis_connection_only_where_they_are_few() {
        let stores = TestStores::create().await;
        for (connections, is_shared) in [("50", false), ("5", true)] {
            let process = stores.context(&[("REDIS_MAX_CONNECTIONS", connections)]);
            let worker = process.for_worker(2).expect("the pools open lazily");
            assert_eq!(client_id(&worker).await == client_id(&process).await, is_shared, "{connections} connections");
        }
    }
}
