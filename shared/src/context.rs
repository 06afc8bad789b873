//! What an operation is given to work with: the settings, both servers, the names in Redis, and time.

use crate::{
    Result,
    breaker::Breaker,
    capacity::pools::OF_SUPERVISOR,
    channels::{HistoryTurns, Namespaces, persist::Registered, presence::PresenceLists},
    clock::Clock,
    config::Settings,
    files::{LocalFiles, Storage},
    jobs::{LocalJobs, LookupBatch},
    keys::Keys,
    outbound::{Guard, Outbound},
    pg::{self, ByValues, Replica},
    points::LocalPoints,
    redis::Redis,
    turns::Turns as UserTurns,
};
use arc_swap::ArcSwap;
use sqlx::PgPool;
use std::sync::Arc;

/// Redis connections of a process that are no worker thread's: the shared one, that for large answers, three that listen, and a spare
/// for probes.
const CONNECTIONS_BESIDE: usize = 6;
/// Those of a worker thread: its own, and one for large answers.
const CONNECTIONS_OF_WORKER: usize = 2;

/// Cheap to clone; one per process, handed down to every operation.
#[derive(Debug, Clone)]
pub struct Context {
    settings: Arc<ArcSwap<Settings>>,
    pub pg: PgPool,
    /// What the threads of a process have together where each would have too few.
    of_threads: Option<PgPool>,
    /// Open while PostgreSQL is away, in processes that watch it.
    pub pg_breaker: Breaker,
    /// Where reads go that may be a moment old ([`Self::read`]).
    pub replica: Option<Replica>,
    pub redis: Redis,
    pub keys: Keys,
    /// The rules of channels; a reload does not change them.
    pub namespaces: Namespaces,
    pub clock: Clock,
    pub jobs: Arc<LocalJobs>,
    /// Persisted channels that this process has published on lately.
    pub registered: Arc<Registered>,
    /// Whose turn it is to read from PostgreSQL: as many as `pg` has connections.
    pub reads: Arc<UserTurns>,
    /// Whose turn it is to read of history.
    pub history_turns: Arc<HistoryTurns>,
    /// Lists of those who are present that are being read.
    pub presence_lists: Arc<PresenceLists>,
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
        Self::with_pools(settings, pg, None)
    }

    /// The same for a process whose threads are to have connections of their own ([`Self::for_worker`]).
    pub fn open_beside_workers(settings: Settings, n_workers: usize) -> Result<Self> {
        let pg = pg::open_process_pool(&settings, n_workers)?;
        let of_threads = pg::open_pool_of_threads(&settings, n_workers)?;
        Self::with_pools(settings, pg, of_threads)
    }

    /// The same for a process that rarely has anything to ask: no connection until it is needed, and few.
    pub fn open_spare(settings: Settings) -> Result<Self> {
        Self::open_lazily(settings, OF_SUPERVISOR)
    }

    /// The same for a process of which there are many and often new ones: no connection until it is needed, and `max` at most.
    pub fn open_lazily(settings: Settings, max: u32) -> Result<Self> {
        let pg = pg::open_spare_pool(&settings, max)?;
        Self::with_pools(settings, pg, None)
    }

    fn with_pools(settings: Settings, pg: PgPool, of_threads: Option<PgPool>) -> Result<Self> {
        let replica = Replica::open(&settings, of_threads.as_ref().unwrap_or(&pg).options().get_max_connections())?;
        let redis = Redis::open(&settings)?;
        let keys = Keys::new(&settings.redis_prefix);
        let namespaces = settings.namespaces.clone();
        let outbound = Outbound::new(Guard::new(&settings.outbound_allow));
        let jobs = Arc::new(LocalJobs::new(&settings, &pg, &redis));
        let (files, storage) = (Arc::new(LocalFiles::new(&settings)), Storage::new(&settings));
        let points = Arc::new(LocalPoints::new(&settings));
        let reads = turns_of(of_threads.as_ref().unwrap_or(&pg));
        Ok(Self {
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            pg,
            reads,
            of_threads,
            pg_breaker: Breaker::new("postgres"),
            replica,
            redis,
            keys,
            namespaces,
            clock: Clock::default(),
            jobs,
            registered: Arc::default(),
            history_turns: Arc::default(),
            presence_lists: Arc::default(),
            lookups: Arc::default(),
            points,
            files,
            storage,
            outbound,
        })
    }

    /// The same with connections of its own: a worker thread that polls its own sockets wakes no other thread. The pool's
    /// size is dealt out over `n_workers`.
    pub fn for_worker(&self, n_workers: usize) -> Result<Self> {
        let settings = self.settings();
        let (pg, replica, reads) = match &self.of_threads {
            Some(of_threads) => (of_threads.clone(), self.replica.clone(), Arc::clone(&self.reads)),
            None => {
                let pg = pg::open_thread_pool(&settings, n_workers)?.unwrap_or_else(|| self.pg.clone());
                let replica = self.replica.as_ref().map(|replica| replica.beside(&settings, &pg)).transpose()?;
                let reads = turns_of(&pg);
                (pg, replica, reads)
            }
        };
        // Where connections are few, the threads share the process's one.
        let own = settings.redis_max_connections >= CONNECTIONS_OF_WORKER * n_workers + CONNECTIONS_BESIDE;
        let redis = if own { self.redis.with_own_connection(&settings)? } else { self.redis.clone() };
        Ok(Self { pg, replica, reads, redis, lookups: Arc::default(), storage: self.storage.for_runtime(), ..self.clone() })
    }

    /// The same with the connections of the process, for work that outlives the worker thread it began on.
    #[must_use]
    pub fn for_process(&self) -> Self {
        let (pg, redis) = self.jobs.process_connections();
        Self { pg, redis, lookups: Arc::default(), ..self.clone() }
    }

    /// The same with connections of its own, `max` at most, for work on a runtime whose threads may be blocked: a connection that
    /// such a thread polls would hold up everybody who shares it. Call it inside that runtime.
    pub fn for_handlers(&self, max: u32) -> Result<Self> {
        let settings = self.settings();
        let pg = pg::open_pool_of_handlers(&settings, max)?;
        let (redis, storage) = (self.redis.with_own_connection(&settings)?, self.storage.for_runtime());
        Ok(Self { pg, redis, lookups: Arc::default(), storage, ..self.clone() })
    }

    /// What a read comes to that nothing is decided by, and that may be a moment old: of the replica, if there is one that answers,
    /// else of the primary.
    pub async fn read<T>(&self, read: impl AsyncFn(&Self) -> Result<T>) -> Result<T> {
        if let Some(replica) = &self.replica {
            let there = Self { pg: replica.pg.clone(), ..self.clone() };
            if let Some(answer) = replica.unless_away(read(&there)).await {
                return answer;
            }
        }
        read(self).await
    }

    /// What lists are read from: planned for the values they are asked with.
    pub(crate) fn by_values(&self) -> ByValues<&PgPool> {
        ByValues(&self.pg)
    }

    /// Whether the threads have one pool together: the process fills it.
    pub fn has_pool_of_threads(&self) -> bool {
        self.of_threads.is_some()
    }

    /// Opens the connections that the pools keep. Call it on the runtime that will poll them: for the process, and for each thread that
    /// has a pool of its own.
    pub async fn fill_pools(&self) -> Result<()> {
        if let Some(of_threads) = &self.of_threads {
            pg::fill(of_threads).await?;
        }
        let of_replica = async {
            if let Some(replica) = &self.replica {
                // Nobody depends on it.
                drop(pg::fill(&replica.pg).await);
            }
        };
        tokio::join!(pg::fill(&self.pg), of_replica).0
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

/// As many turns as the pool has connections.
fn turns_of(pg: &PgPool) -> Arc<UserTurns> {
    Arc::new(UserTurns::all_but_a_quarter(pg.options().get_max_connections() as usize, "Too much is being read at once."))
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
