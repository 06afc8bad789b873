//! What tests of batches and dependencies are built with: two processes, a user, and jobs that are run by hand.

use super::*;
use crate::{
    Caller, Result, Role,
    caller::Credential,
    ids::SessionId,
    jobs::{
        Job, JobState, SubmitJob,
        bulk::{self, Prepared},
        engine::settle::{self, Settled},
        new_job::Origin,
        read, submit,
    },
};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Instant};

/// Held jobs by id.
pub(super) type Held = HashMap<JobId, (Token, Standing)>;

pub(super) struct World {
    pub(super) fixture: Fixture,
    pub(super) ctx: Context,
    /// A second process on the same servers.
    pub(super) other: Context,
    pub(super) user: Caller,
    holder: Holder,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(super) async fn with(overrides: &[(&str, &str)]) -> Self {
        let fixture = Fixture::with(overrides).await;
        let other = fixture._stores.context(overrides);
        let user = account(&fixture.ctx, Role::User).await;
        Self { ctx: fixture.ctx.clone(), other, user, holder: worker(), fixture }
    }

    pub(super) async fn try_submit(&self, fields: Value) -> Result<Job> {
        let job = submit::prepare(&self.ctx, &self.user, echo(fields), Origin::default()).await?;
        submit::submit(&self.ctx, job).await
    }

    pub(super) async fn submit(&self, fields: Value) -> JobId {
        self.try_submit(fields).await.unwrap().id
    }

    /// One that waits for `ids`.
    pub(super) async fn after(&self, ids: &[JobId]) -> JobId {
        self.submit(json!({ "depends_on": ids })).await
    }

    pub(super) async fn prepare_bulk(&self, fields: &[Value]) -> Prepared {
        let items = fields.iter().map(|fields| Ok(echo(fields.clone()))).collect();
        bulk::prepare(&self.ctx, &self.user, items, &Origin::default()).await.unwrap()
    }

    pub(super) async fn job(&self, id: JobId) -> Job {
        read::get(&self.ctx, &self.user, id).await.unwrap()
    }

    pub(super) async fn state(&self, id: JobId) -> JobState {
        self.job(id).await.state
    }

    /// Leases all that is ready, and says that it started.
    pub(super) async fn start(&self) -> Held {
        let leased = self.fixture.lease(&self.holder, 1_000).await;
        let hold = |leased: &Leased| {
            let token = Token { job_id: leased.id, attempt: leased.standing.attempt, nonce: self.holder.nonce };
            (leased.id, (token, leased.standing))
        };
        let held = leased.iter().map(hold).collect::<Held>();
        self.fixture.step(&self.holder, Step { started: held.values().map(|(token, _)| *token).collect(), ..Step::default() }).await;
        held
    }

    /// Ends a held job as a worker of the process `ctx` does.
    pub(super) async fn end_on(&self, ctx: &Context, (token, standing): (Token, Standing), outcome: Outcome) {
        let conclusion = self.fixture.conclusion(token, standing, outcome);
        let settled = settle::write(ctx, &[conclusion]).await.unwrap();
        let finish = settled.into_iter().map(|Settled { finish, .. }| finish).collect();
        self.fixture.step(&self.holder, Step { finish, ..Step::default() }).await;
    }

    pub(super) async fn end(&self, held: (Token, Standing), outcome: Outcome) {
        self.end_on(&self.ctx, held, outcome).await;
    }

    /// Runs a job to its end, once Redis has it.
    pub(super) async fn run(&self, id: JobId, outcome: Outcome) {
        until("Redis has the job", async || self.fixture.copy(id).await.is_some()).await;
        self.end(self.start().await[&id], outcome).await;
    }

    /// Ends a held job as a worker does that is killed at the next moment: nobody sees to what follows.
    pub(super) async fn end_and_be_killed(&self, (token, standing): (Token, Standing), outcome: Outcome) {
        let conclusion = self.fixture.conclusion(token, standing, outcome);
        let mut connection = self.ctx.pg.acquire().await.unwrap();
        assert_eq!(store::conclude(&mut connection, &[&conclusion]).await.unwrap().len(), 1);
    }

    /// Runs whatever is to be done until nothing is.
    pub(super) async fn run_all(&self) {
        until("all jobs are over", async || {
            for (_, held) in self.start().await {
                self.end(held, done()).await;
            }
            self.count("jobs").await == 0
        })
        .await;
    }

    pub(super) async fn until_state(&self, id: JobId, state: JobState) -> Job {
        until(&format!("the job is {state}"), async || self.state(id).await == state).await;
        self.job(id).await
    }

    pub(super) async fn count(&self, what: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {what}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.ctx.pg).await.unwrap()
    }

    pub(super) async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.ctx.pg).await.unwrap();
    }

    /// What of this feature is left to be done.
    pub(super) async fn count_left(&self) -> i64 {
        self.count("ended_dependencies").await + self.count("released_jobs").await + self.count("batch_changes").await
    }
}

fn echo(fields: Value) -> SubmitJob {
    let mut body = json!({"kind": "debug.echo"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_str(&body.to_string()).unwrap()
}

pub(super) async fn account(ctx: &Context, role: Role) -> Caller {
    let id = UserId::new();
    sqlx::query("INSERT INTO users (id, email, password_hash, role, created_at, updated_at) VALUES ($1, $2, '', $3, now(), now())")
        .bind(id.0)
        .bind(format!("{id}@example.org"))
        .bind(role.as_str())
        .execute(&ctx.pg)
        .await
        .unwrap();
    Caller::new(id, role, role.scopes(), Credential::Session(SessionId::new()))
}

pub(super) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !is_so().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn dead() -> Outcome {
    Outcome::Discard(crate::jobs::JobError { code: "broken".to_owned(), message: "it is broken".to_owned() })
}
