//! What one process keeps of jobs between requests. Nothing here is the truth: all of it may vanish at any moment.

use super::{
    aftermath::Aftermath, coalesce::Coalescer, engine::remote::desk::Desk, events::Follows, lookup::Lookups, outage::Outage,
    queues::QueueCache, volatile::VolatileQueues, wait::Waiters,
};
use crate::{config::Settings, redis::Redis, turns::Turns};
use sqlx::PgPool;
use tokio::runtime::Handle;

/// Requests that requeue or delete many dead letters at once: one of each user. Each holds a connection for seconds.
const DEAD_LETTERS_MAX: usize = 4;

#[derive(Debug)]
pub struct LocalJobs {
    pub(super) coalescer: Coalescer,
    pub(super) unique_coalescer: Coalescer,
    pub(super) queues: QueueCache,
    pub(super) volatile_queues: VolatileQueues,
    pub(super) waiters: Waiters,
    pub(super) follows: Follows,
    pub(super) outage: Outage,
    pub(super) lookups: Lookups,
    pub(super) desk: Desk,
    pub(super) aftermath: Aftermath,
    /// Whose turn it is to requeue or delete dead letters.
    pub(super) dead_letters: Turns,
    /// Where work goes on that must outlive the request, and the server thread, that began it.
    pub(crate) runtime: Handle,
    pg: PgPool,
    redis: Redis,
}

impl LocalJobs {
    /// Must be called inside the runtime that lives as long as the process.
    pub fn new(settings: &Settings, pg: &PgPool, redis: &Redis) -> Self {
        Self {
            coalescer: Coalescer::default(),
            unique_coalescer: Coalescer::default(),
            queues: QueueCache::new(settings.queues_max),
            volatile_queues: VolatileQueues::default(),
            waiters: Waiters::new(settings.wait_max),
            follows: Follows::default(),
            outage: Outage::default(),
            lookups: Lookups::default(),
            desk: Desk::default(),
            aftermath: Aftermath::default(),
            dead_letters: Turns::new(DEAD_LETTERS_MAX, "Dead letters are being dealt with already."),
            runtime: Handle::current(),
            pg: pg.clone(),
            redis: redis.clone(),
        }
    }

    /// Connections that [`LocalJobs::runtime`] polls.
    pub(crate) fn process_connections(&self) -> (PgPool, Redis) {
        (self.pg.clone(), self.redis.clone())
    }
}
