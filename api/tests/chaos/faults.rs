//! The faults, and the world they strike.

use crate::{
    client::Client,
    failover, processes,
    programs::{LEASE_MS, Program, Programs},
    servers::Servers,
};
use nix::sys::signal::Signal;
use shared::{
    Context,
    testing::{RedisTopology, TestStores},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    WorkerKilled,
    RedisKilled,
    PostgresKilled,
    ApiKilled,
    /// Longer than its leases last; then it goes on.
    ChildStopped,
    RedisEmptied,
    /// Longer than leases last; then it answers what it was asked meanwhile.
    RedisStopped,
    /// Killed, and started again without its last writes.
    RedisRolledBack,
    EverythingKilled,
    /// Of several servers the one that has the queue `default`; another takes over.
    MasterKilled,
    /// The same, but it only hangs: nothing fails, nothing answers. Once another has taken over it goes on as if nothing were.
    MasterStopped,
}

impl Fault {
    /// In the order of a run: first one after the other, then again with what is worse.
    pub(crate) const ALL: &[Self] = &[
        Self::WorkerKilled,
        Self::RedisKilled,
        Self::PostgresKilled,
        Self::ApiKilled,
        Self::ChildStopped,
        Self::RedisEmptied,
        Self::RedisStopped,
        Self::RedisRolledBack,
        Self::EverythingKilled,
    ];

    /// Of a run on several Redis servers.
    pub(crate) const FAILOVERS: &[Self] = &[Self::MasterKilled, Self::MasterStopped];

    /// Whether many jobs are to wait when it strikes, more than workers leave waiting by themselves.
    pub(crate) const fn strikes_a_backlog(self) -> bool {
        matches!(self, Self::MasterKilled | Self::MasterStopped)
    }

    /// Runs of one job that each such fault may add without any record: an attempt that had begun when its worker, or what
    /// Redis knew of it, was lost before the start was told.
    pub(crate) const fn unrecorded_max(self) -> usize {
        match self {
            Self::PostgresKilled | Self::ApiKilled => 0,
            Self::WorkerKilled
            | Self::RedisKilled
            | Self::ChildStopped
            | Self::RedisEmptied
            | Self::RedisStopped
            | Self::RedisRolledBack
            | Self::MasterKilled
            | Self::MasterStopped => 1,
            // Both the worker and what Redis knew.
            Self::EverythingKilled => 2,
        }
    }
}

/// Everything that runs.
pub(crate) struct World {
    pub(crate) ctx: Context,
    pub(crate) client: Client,
    servers: Servers,
    /// In place of the one Redis.
    topology: Option<RedisTopology>,
    pub(crate) programs: Programs,
    api: Program,
    workers: [Program; 2],
    struck: Arc<Notify>,
    _stores: TestStores,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::on(TestStores::create().await, None).await
    }

    pub(crate) async fn with_redis(topology: RedisTopology) -> Self {
        let mut stores = TestStores::create().await;
        stores.use_redis_url(topology.url());
        Self::on(stores, Some(topology)).await
    }

    async fn on(stores: TestStores, topology: Option<RedisTopology>) -> Self {
        let servers = Servers::of_this_run();
        let mut programs = Programs::prepare(&stores);
        let api = programs.api();
        let workers = [programs.worker(), programs.worker()];
        let client = Client::sign_in(programs.port).await;
        Self { ctx: stores.context(&[]), client, servers, topology, programs, api, workers, struck: Arc::default(), _stores: stores }
    }

    /// Waits for `is_middle`, and for work that is under way; returns how many jobs are pending then.
    pub(crate) async fn until_in_the_middle(&self, is_middle: impl Fn() -> bool) -> i64 {
        loop {
            let n_due = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE run_at <= now()").fetch_one(&self.ctx.pg).await.unwrap_or(0);
            if is_middle() && n_due > 0 {
                return n_due;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets the jobs of the queue `default` gather.
    pub(crate) async fn hold_jobs(&self) {
        self.client.command("/queues/default/pause").await;
    }

    /// Lets them run, and waits until they do; returns how many are pending then.
    pub(crate) async fn release_jobs(&self) -> i64 {
        const COUNT: &str = "SELECT count(*) FROM jobs WHERE run_at <= now()";
        let n_due = async || sqlx::query_scalar::<_, i64>(COUNT).fetch_one(&self.ctx.pg).await.unwrap();
        let n_held = n_due().await;
        self.client.command("/queues/default/resume").await;
        loop {
            let n_left = n_due().await;
            if n_left < n_held {
                return n_left;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Tells when a master's fault has begun.
    pub(crate) fn struck(&self) -> Arc<Notify> {
        Arc::clone(&self.struck)
    }

    /// Does it, and brings back what it took.
    pub(crate) async fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::WorkerKilled => self.replace_worker(0),
            Fault::RedisKilled => self.servers.kill_redis().await,
            Fault::PostgresKilled => self.servers.kill_postgres().await,
            Fault::ApiKilled => self.replace_api(),
            Fault::ChildStopped => self.stop_child().await,
            Fault::RedisEmptied => {
                redis::cmd("FLUSHALL").exec_async(&mut self.ctx.redis.connection()).await.expect("Redis is up");
            }
            Fault::RedisStopped => {
                self.servers.signal_redis(Signal::SIGSTOP).await;
                longer_than_a_lease().await;
                self.servers.signal_redis(Signal::SIGCONT).await;
            }
            Fault::RedisRolledBack => self.servers.roll_redis_back().await,
            Fault::EverythingKilled => self.kill_everything().await,
            Fault::MasterKilled => failover::kill_master(&self.ctx, &self.struck).await,
            Fault::MasterStopped => failover::stop_master(&self.ctx, &self.struck).await,
        }
        if let Some(topology) = &self.topology {
            topology.revive();
        }
        self.servers.revive().await;
    }

    fn replace_worker(&mut self, at: usize) {
        self.workers[at].kill();
        self.workers[at] = self.programs.worker();
    }

    fn replace_api(&mut self) {
        self.api.kill();
        self.api = self.programs.api();
    }

    async fn stop_child(&self) {
        let Some(child) = processes::children(self.workers[1].pid()).first().copied() else { panic!("the worker has children") };
        processes::send(child, Signal::SIGSTOP);
        longer_than_a_lease().await;
        processes::send(child, Signal::SIGCONT);
    }

    async fn kill_everything(&mut self) {
        self.servers.kill_redis().await;
        self.servers.kill_postgres().await;
        self.api.kill();
        for worker in &mut self.workers {
            worker.kill();
        }
        self.servers.revive().await;
        self.api = self.programs.api();
        self.workers = [self.programs.worker(), self.programs.worker()];
    }
}

async fn longer_than_a_lease() {
    tokio::time::sleep(Duration::from_millis(LEASE_MS * 5 / 4)).await;
}
