//! The operations against real servers. Here: what the tests are built with.

mod bulk;
mod change;
mod coalesce;
mod dead;
mod events;
mod lifecycle;
mod list;
mod plans;
mod queues;
mod read;
mod submit;
mod unique;
mod volatile;
mod wait;
mod workers;

use super::{
    Job, NewJob, SubmitJob,
    engine::{
        Nonce, QueueKeys, Standing, Token,
        scripts::{self, Action, Finish, Holder, Step},
    },
    new_job::Origin,
    submit as submitting,
};
use crate::{
    Caller, Context, Result, Role,
    caller::Credential,
    ids::{JobId, SessionId, UserId},
    testing::{TestStores, server_of},
};
use serde_json::{Value, json};
use std::time::Duration;

/// A context on stores of its own, which vanish with it.
struct Fixture {
    ctx: Context,
    user: Caller,
    nonce: Nonce,
    stores: TestStores,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(overrides: &[(&str, &str)]) -> Self {
        let stores = TestStores::create().await;
        Self { ctx: stores.context(overrides), user: caller(Role::User), nonce: Nonce::new(), stores }
    }

    async fn submit(&self, body: Value) -> Result<Job> {
        self.submit_as(&self.user, body).await
    }

    async fn submit_as(&self, caller: &Caller, body: Value) -> Result<Job> {
        let job = prepare(&self.ctx, caller, body).await?;
        submitting::submit(&self.ctx, job).await
    }

    /// Submits an echo with these fields on top.
    async fn echo(&self, fields: Value) -> Job {
        let mut body = json!({"kind": "debug.echo"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.submit(body).await.unwrap()
    }

    /// Moves a live job to the ended ones, as a worker's conclusion does.
    async fn end(&self, id: JobId, state: &str) {
        sqlx::query(
            "WITH gone AS (DELETE FROM jobs WHERE id = $1 RETURNING *)
            INSERT INTO jobs_ended
            SELECT g.id, owner_id, kind, queue, $2, wait_reason, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
                retry_base_ms, retry_max_ms, attempt + 1, failures, snoozes, nonce, NULL, NULL, cancel_requested_at, unique_key,
                concurrency_key, tags, target, batch_id, request_id, traceparent, created_at,
                CASE WHEN $2 = 'succeeded' THEN payload END, 'worker-1', now(), now()
            FROM gone AS g",
        )
        .bind(id.0)
        .bind(state)
        .execute(&self.ctx.pg)
        .await
        .unwrap();
    }

    /// Leases all that is ready in the default queue; returns how many.
    async fn lease(&self) -> usize {
        self.step(Step { want: 100, ..Step::default() }).await.len()
    }

    /// Leases all that is ready and says that it has started.
    async fn start(&self) {
        let started = self.step(Step { want: 100, ..Step::default() }).await;
        self.step(Step { started, ..Step::default() }).await;
    }

    async fn step(&self, step: Step) -> Vec<Token> {
        let mut connection = self.ctx.redis.connection();
        let cfg = self.ctx.keys.queue("default", "cfg");
        let run_id: String = server_of(&self.ctx.redis, &cfg).await.unwrap().get("run_id").unwrap();
        redis::cmd("HSET").arg(cfg).arg("run_id").arg(run_id).exec_async(&mut connection).await.unwrap();
        let holder = Holder { nonce: self.nonce, worker_id: "w1".to_owned(), lease: Duration::from_secs(30) };
        let keys = QueueKeys::new(&self.ctx.keys, &"default".parse().unwrap());
        let stepped = scripts::step(&mut connection, &keys, &holder, &step).await.unwrap();
        assert!(stepped.known, "the queue's run_id is set above");
        stepped.leased.iter().map(|leased| Token { job_id: leased.id, attempt: leased.standing.attempt, nonce: self.nonce }).collect()
    }

    /// Ends what was leased, as a worker does once PostgreSQL has it.
    async fn finish(&self, tokens: &[Token]) {
        let finish = tokens.iter().map(|token| Finish {
            token: *token,
            action: Action::End { state: "succeeded" },
            standing: Standing { priority: 4, attempt: token.attempt, failures: 0, snoozes: 0, returns: 0, crashes: 0 },
        });
        self.step(Step { finish: finish.collect(), ..Step::default() }).await;
    }

    async fn count(&self, table: &'static str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&self.ctx.pg).await.unwrap()
    }
}

async fn prepare(ctx: &Context, caller: &Caller, body: Value) -> Result<NewJob> {
    submitting::prepare(ctx, caller, parse(body), Origin::default()).await
}

fn parse(body: Value) -> SubmitJob {
    serde_json::from_str(&body.to_string()).unwrap()
}

fn caller(role: Role) -> Caller {
    Caller::new(UserId::new(), role, role.scopes(), Credential::Session(SessionId::new()))
}
