//! What the tests are built with: stores, jobs, worker processes that cannot outlive their test, and waiting for a condition.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use shared::{
    Caller, Context, Error, Role,
    accounts::Accounts,
    caller::Credential,
    ids::{JobId, SessionId, UserId},
    jobs::{
        Job, JobState, SubmitJob, attempts,
        new_job::Origin,
        read, submit,
        workers::{self, ActiveJob, Worker, WorkerState},
    },
    limits::Limiter,
    page::PageQuery,
    testing::{RedisServer, TestStores, delete_keys},
};
use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Short times, so that what expires does so while the test waits.
const SETTINGS: &[(&str, &str)] = &[
    ("APP_PROFILE", "development"),
    ("LOG_LEVEL", "warn"),
    ("WORKER_METRICS_ADDR", "none"),
    ("WORKER_LEASE_MS", "1500"),
    ("WORKER_HEARTBEAT_MS", "300"),
    ("WORKER_RECONCILE_MS", "300"),
    ("WORKER_SWEEP_MS", "50"),
    ("WORKER_GRACE_S", "5"),
    ("OUTBOUND_ALLOW", "127.0.0.0/8"),
    ("OUTBOUND_BREAKER_MS", "1000"),
];

/// A lease of a worker's on the default queue, as Redis has it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) job_id: JobId,
    pub(crate) is_started: bool,
    /// Of the child.
    pub(crate) nonce: String,
    pub(crate) worker_id: String,
}

impl Lease {
    /// `None` for one whose outcome is being written, which counts against no prefetch.
    fn parse((id, text): (String, String)) -> Option<Self> {
        let mut fields = text.split(':');
        let is_started = match fields.next()?.get(..1)? {
            "s" => return None,
            flag => flag == "S",
        };
        let (nonce, worker_id) = (fields.nth(1)?.to_owned(), fields.next()?.to_owned());
        Some(Self { job_id: id.parse().ok()?, is_started, nonce, worker_id })
    }
}

pub(crate) struct World {
    pub(crate) ctx: Context,
    pub(crate) caller: Caller,
    stores: TestStores,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(TestStores::create().await)
    }

    /// With a Redis of its own, that a test may kill.
    pub(crate) async fn with_redis(redis: &RedisServer) -> Self {
        let mut stores = TestStores::create().await;
        stores.use_redis(redis);
        Self::on(stores)
    }

    /// With `settings` on top of the test's, for itself and for every worker.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let mut stores = TestStores::create().await;
        stores.variables.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self::on(stores)
    }

    fn on(stores: TestStores) -> Self {
        let id = UserId::new();
        let caller = Caller::new(id, Role::Operator, Role::Operator.scopes(), Credential::Session(SessionId::new()));
        Self { ctx: stores.context(SETTINGS), caller, stores }
    }

    /// Starts `millrace-jobs work` with `settings` on top of the test's.
    pub(crate) fn worker(&self, settings: &[(&str, &str)]) -> WorkerProcess {
        let mut command = self.command();
        let child = command.arg("work").envs(settings.iter().copied()).stdin(Stdio::null()).spawn().expect("the worker starts");
        WorkerProcess { child }
    }

    /// The same, writing its log and that of its children to `log`.
    pub(crate) fn talkative_worker(&self, settings: &[(&str, &str)], log: std::fs::File) -> WorkerProcess {
        let mut command = self.command();
        let command = command.arg("work").envs(settings.iter().copied()).stdin(Stdio::null()).stderr(log);
        WorkerProcess { child: command.spawn().expect("the worker starts") }
    }

    /// The program with this test's stores and settings, and nothing else of our environment.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace-jobs"));
        command.env_clear().envs(self.stores.variables.iter().cloned()).envs(SETTINGS.iter().copied());
        command
    }

    pub(crate) async fn submit(&self, body: Value) -> JobId {
        let submit: SubmitJob = serde_json::from_value(body).expect("a test submits what can be submitted");
        let job = submit::prepare(&self.ctx, &self.caller, submit, Origin::default()).await.unwrap();
        submit::submit(&self.ctx, job).await.unwrap().id
    }

    /// Why a submit is refused.
    pub(crate) async fn refused(&self, body: Value) -> Error {
        self.refused_to(&self.caller, body).await
    }

    pub(crate) async fn refused_to(&self, caller: &Caller, body: Value) -> Error {
        let submit: SubmitJob = serde_json::from_value(body).expect("it has the shape of a submit");
        submit::prepare(&self.ctx, caller, submit, Origin::default()).await.expect_err("it is refused")
    }

    pub(crate) async fn accounts(&self) -> Accounts {
        Accounts::open(self.ctx.clone(), Limiter::new(1)).await.unwrap()
    }

    pub(crate) async fn echo(&self) -> JobId {
        self.submit(json!({"kind": "debug.echo", "payload": {"hello": "world"}})).await
    }

    pub(crate) async fn sleep(&self, ms: u64) -> JobId {
        self.submit(json!({"kind": "debug.sleep", "payload": {"ms": ms}, "retry": {"base_ms": 10, "max_ms": 20}})).await
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        read::get(&self.ctx, &self.caller, id).await.unwrap()
    }

    /// Waits until the job is in `state`.
    pub(crate) async fn until(&self, id: JobId, state: JobState) -> Job {
        self.until_job(id, state.as_str(), |job| job.state == state).await
    }

    pub(crate) async fn until_job(&self, id: JobId, what: &str, is_so: impl Fn(&Job) -> bool) -> Job {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let job = self.job(id).await;
            if is_so(&job) {
                return job;
            }
            assert!(!job.state.is_ended() && Instant::now() < deadline, "the job never was {what}: {job:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The outcomes of the attempts that did not succeed, in order.
    pub(crate) async fn failed_attempts(&self, id: JobId) -> Vec<String> {
        let page = attempts::list(&self.ctx, &self.caller, id, &PageQuery::default().parse().unwrap()).await.unwrap();
        page.items.iter().map(|attempt| attempt.outcome.as_str().to_owned()).collect()
    }

    /// How many of the job's attempts count against its limit.
    pub(crate) async fn failures(&self, id: JobId) -> i32 {
        sqlx::query_scalar("SELECT failures FROM jobs_all WHERE id = $1").bind(id.0).fetch_one(&self.ctx.pg).await.unwrap()
    }

    /// The child that runs suspects, once there is one.
    pub(crate) async fn quarantine_child(&self) -> u32 {
        let is_one = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"--quarantine\0"));
        let pid = |workers: &[Worker]| workers.iter().flat_map(|worker| &worker.children).map(|child| child.pid).find(is_one);
        pid(&self.until_workers("a child for suspects", |workers| pid(workers).is_some()).await).unwrap()
    }

    /// The pids of the children of all workers, once there are `n` and none of them is in `but_not`.
    pub(crate) async fn children(&self, n: usize, but_not: &[u32]) -> Vec<u32> {
        let pids = |workers: &[Worker]| -> Vec<u32> {
            let children = workers.iter().flat_map(|worker| &worker.children);
            children.map(|child| child.pid).filter(|pid| !but_not.contains(pid)).collect()
        };
        pids(&self.until_workers("so many children", |workers| pids(workers).len() == n).await)
    }

    /// Waits until workers report `n` jobs that are leased ahead.
    pub(crate) async fn reserved(&self, n: usize) {
        self.until_workers("jobs in reserve", |workers| workers.iter().map(|worker| worker.counts.reserved).sum::<usize>() == n).await;
    }

    /// Waits until workers report `n` jobs that run.
    pub(crate) async fn active(&self, n: usize) {
        self.until_workers("active jobs", |workers| workers.iter().map(|worker| worker.counts.active).sum::<usize>() == n).await;
    }

    pub(crate) async fn leases(&self) -> Vec<Lease> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.ctx.keys.queue("default", "tok"));
        let leases: HashMap<String, String> = cmd.query_async(&mut self.ctx.redis.connection()).await.unwrap();
        leases.into_iter().filter_map(Lease::parse).collect()
    }

    /// Waits until `n_started` of `n_leased` leases in all have started, and returns them.
    pub(crate) async fn until_leased(&self, n_leased: usize, n_started: usize) -> Vec<Lease> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let leases = self.leases().await;
            if leases.len() == n_leased && leases.iter().filter(|lease| lease.is_started).count() == n_started {
                return leases;
            }
            assert!(Instant::now() < deadline, "there never were {n_leased} leases with {n_started} started: {leases:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the only worker is in `state`.
    pub(crate) async fn until_state(&self, state: WorkerState) {
        self.until_workers("in that state", |workers| workers.iter().any(|worker| worker.state == state)).await;
    }

    pub(crate) async fn workers(&self) -> Vec<Worker> {
        workers::list(&self.ctx, &self.caller, &PageQuery::default().parse().unwrap()).await.unwrap().items
    }

    /// Waits until a worker lists the job among those that run, in a way that satisfies.
    pub(crate) async fn until_active(&self, id: JobId, is_so: impl Fn(&ActiveJob) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            for worker in self.workers().await {
                let detail = workers::get(&self.ctx, &self.caller, worker.id).await.unwrap();
                if detail.active.iter().any(|active| active.job_id == id && is_so(active)) {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "no worker ever listed {id} so");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until_workers(&self, what: &str, is_so: impl Fn(&[Worker]) -> bool) -> Vec<Worker> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let all = self.workers().await;
            if is_so(&all) {
                return all;
            }
            assert!(Instant::now() < deadline, "there never were {what}: {all:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What a FLUSHALL does to this test's part of Redis.
    pub(crate) async fn empty_redis(&self) {
        delete_keys(&self.ctx.redis, &self.ctx.keys.everything()).await.unwrap();
    }
}

/// A running worker; killed with its children when dropped.
pub(crate) struct WorkerProcess {
    child: Child,
}

impl WorkerProcess {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for the end, and returns whether it was an orderly one.
    pub(crate) async fn ended(mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.success();
            }
            assert!(Instant::now() < deadline, "the worker never ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // Its children end by themselves: their lifeline is gone.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).expect("the process is there");
}

/// Waits until no such process is left.
pub(crate) async fn gone(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let is_there = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie that nobody has reaped yet runs no more.
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    };
    while is_there() {
        assert!(Instant::now() < deadline, "process {pid} never ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
