//! The engine against real servers, below the level of processes: the scripts, the guarded statement, and the repairs.
//! Each rule of the protocol between Redis and PostgreSQL has tests that fail without it: docs/protocol.md names them.

mod batches;
mod cancel;
mod dependencies;
mod desk;
mod enqueue;
mod expiry;
mod fencing;
mod followers;
mod lease;
mod leaser;
mod limits;
mod machine;
mod panics;
mod quarantine;
mod reconcile;
mod remote;
mod rest;
mod salvage;
mod settle;
mod states;
mod storm;
mod ties;
mod timekeeping;
mod volatile;

use super::{
    Enqueue, Limits, Nonce, QueueKeys, Standing, Token,
    copy::inline,
    outcome::{Conclusion, Delivery, Outcome, conclude},
    scripts::{self, Action, Finish, Holder, Leased, Step, Stepped},
    store::{self, QueueRow},
};
use crate::redis::Connection;
use crate::{
    Context,
    ids::{JobId, UserId},
    jobs::{JobKind, QueueName, RetryPolicy},
    testing::TestStores,
};
use serde_json::value::RawValue;
use std::time::Duration;
use time::OffsetDateTime;

const RETRY: RetryPolicy = RetryPolicy { max_attempts: 3, base_ms: 60_000, max_ms: 60_000 };

/// One queue on stores of its own.
struct Fixture {
    ctx: Context,
    queue: QueueName,
    keys: QueueKeys,
    connection: Connection,
    _stores: TestStores,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The queue is known to Redis and empty.
    async fn with(overrides: &[(&str, &str)]) -> Self {
        let stores = TestStores::create().await;
        let ctx = stores.context(overrides);
        let queue = QueueName::default();
        let fixture = Self { keys: QueueKeys::new(&ctx.keys, &queue), connection: ctx.redis.connection(), queue, ctx, _stores: stores };
        fixture.restore().await;
        fixture
    }

    async fn restore(&self) {
        self.restore_with(Limits::default()).await;
    }

    /// Makes this Redis known to the queue, which has just come to be.
    async fn restore_with(&self, limits: Limits) {
        let created_at = self.ctx.clock.now();
        let row = QueueRow { name: self.queue.clone(), is_paused: false, is_remote: false, limits, created_at };
        super::reconcile::restore(&self.ctx, &row).await.unwrap();
    }

    /// What a FLUSHALL does to this test's part of Redis.
    async fn empty_redis(&self) {
        crate::testing::delete_keys(&self.ctx.redis, &self.ctx.keys.everything()).await.unwrap();
    }

    /// Writes a row and leaves Redis alone.
    async fn row(&self) -> Enqueue {
        self.row_at(self.ctx.clock.now(), 4).await
    }

    async fn row_at(&self, run_at: OffsetDateTime, priority: i16) -> Enqueue {
        let payload = RawValue::from_string(r#"{"n":1}"#.to_owned()).unwrap();
        let job = Enqueue {
            id: JobId::new(),
            owner_id: UserId::new(),
            kind: JobKind::new("debug.echo").unwrap(),
            standing: Standing { priority, attempt: 0, failures: 0, snoozes: 0, returns: 0, crashes: 0 },
            run_at,
            expires_at: None,
            timeout_ms: None,
            retry: RETRY,
            payload: inline(&payload),
            request_id: None,
            traceparent: None,
            verify: false,
            volatile: None,
            concurrency_key: None,
        };
        sqlx::query(
            "INSERT INTO jobs (id, owner_id, kind, queue, priority, payload, run_at, max_attempts, retry_base_ms, retry_max_ms, created_at)
            VALUES ($1, $2, 'debug.echo', $3, $4, '{\"n\":1}', $5, $6, $7, $8, now())",
        )
        .bind(job.id.0)
        .bind(job.owner_id.0)
        .bind(self.queue.as_str())
        .bind(priority)
        .bind(run_at)
        .bind(RETRY.max_attempts)
        .bind(RETRY.base_ms)
        .bind(RETRY.max_ms)
        .execute(&self.ctx.pg)
        .await
        .unwrap();
        job
    }

    /// Writes a row and brings it into Redis.
    async fn job(&self) -> Enqueue {
        let job = self.row().await;
        self.enqueue(&job).await;
        job
    }

    async fn enqueue(&self, job: &Enqueue) {
        super::enqueue(&self.ctx, &self.queue, std::slice::from_ref(job)).await.unwrap();
    }

    async fn step(&self, worker: &Holder, step: Step) -> Stepped {
        scripts::step(&mut self.connection.clone(), &self.keys, worker, &step).await.unwrap()
    }

    async fn lease(&self, worker: &Holder, want: usize) -> Vec<Leased> {
        self.step(worker, Step { want, ..Step::default() }).await.leased
    }

    async fn lease_one(&self, worker: &Holder) -> (Token, Standing) {
        let leased = self.lease(worker, 1).await;
        assert_eq!(leased.len(), 1, "there is one job to lease");
        (Token { job_id: leased[0].id, attempt: leased[0].standing.attempt, nonce: worker.nonce }, leased[0].standing)
    }

    /// Leases one job and says that it started.
    async fn start_one(&self, worker: &Holder) -> (Token, Standing) {
        let (token, standing) = self.lease_one(worker).await;
        self.step(worker, Step { started: vec![token], ..Step::default() }).await;
        (token, standing)
    }

    async fn finish(&self, worker: &Holder, finish: Finish) -> Stepped {
        self.step(worker, Step { finish: vec![finish], ..Step::default() }).await
    }

    fn conclusion(&self, token: Token, standing: Standing, outcome: Outcome) -> Conclusion {
        let delivery =
            Delivery { token, standing, retry: RETRY, worker_id: "w".to_owned(), started_at: Some(self.ctx.clock.now()), record: None };
        conclude(delivery, outcome, self.ctx.clock.now(), 1.0)
    }

    /// Where Redis has the job, and its standing: `r4:0:0:0:0:0`; `None` if nowhere.
    async fn copy(&self, id: JobId) -> Option<String> {
        redis::cmd("HGET").arg(self.keys.att()).arg(id.to_string()).query_async(&mut self.connection.clone()).await.unwrap()
    }

    async fn row_of(&self, id: JobId) -> Option<store::RowStanding> {
        store::standings(&self.ctx.pg, &[id]).await.unwrap().pop()
    }

    /// The outcomes of the attempts that are noted of a job, in order.
    async fn attempts(&self, id: JobId) -> Vec<String> {
        let query = sqlx::query_scalar("SELECT outcome FROM job_attempts WHERE job_id = $1 ORDER BY attempt");
        query.bind(id.0).fetch_all(&self.ctx.pg).await.unwrap()
    }

    /// Makes every lease look expired.
    async fn expire_leases(&self) {
        let ids: Vec<String> =
            redis::cmd("ZRANGE").arg(self.keys.leased()).arg(0).arg(-1).query_async(&mut self.connection.clone()).await.unwrap();
        for id in ids {
            redis::cmd("ZADD").arg(self.keys.leased()).arg(1).arg(id).exec_async(&mut self.connection.clone()).await.unwrap();
        }
    }

    async fn sweep(&self) -> super::expire::Swept {
        super::expire::sweep(&self.ctx, &mut self.connection.clone(), &self.keys).await.unwrap()
    }
}

fn worker() -> Holder {
    Holder { nonce: Nonce::new(), worker_id: "w".to_owned(), lease: Duration::from_secs(30) }
}

fn done() -> Outcome {
    Outcome::Done(RawValue::from_string("1".to_owned()).unwrap())
}

fn end(token: Token, standing: Standing, state: &'static str) -> Finish {
    Finish { token, action: Action::End { state }, standing }
}
