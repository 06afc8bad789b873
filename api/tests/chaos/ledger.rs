//! The books at the end: read over the public API, and again from PostgreSQL and Redis themselves.

use crate::{
    faults::World,
    runs::{self, Runs},
    submitter::Accepted,
};
use serde_json::Value;
use shared::Context;
use shared::redis::Connection;
use std::{collections::HashMap, time::Duration};

/// Everything there is to account for.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Every job that the API lists, by id; a second one of the same id is counted.
    pub(crate) jobs: HashMap<String, Value>,
    pub(crate) n_listed_twice: usize,
    pub(crate) rows: Rows,
    /// Attempts that began and are recorded as not successful, by job.
    pub(crate) attempts: HashMap<String, Vec<(i32, String)>>,
    pub(crate) runs: Runs,
    pub(crate) accepted: HashMap<String, usize>,
}

/// What PostgreSQL counts by itself.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Rows {
    pub(crate) live: i64,
    pub(crate) ended: i64,
    pub(crate) distinct_ids: i64,
    /// Echoes whose result is not their payload.
    pub(crate) wrong_results: i64,
    /// Results of jobs that did not succeed.
    pub(crate) stray_results: i64,
}

impl Ledger {
    pub(crate) async fn read(world: &World, accepted: &Accepted) -> Self {
        let mut ledger = Self {
            jobs: HashMap::new(),
            n_listed_twice: 0,
            rows: rows(&world.ctx).await,
            attempts: attempts(&world.ctx).await,
            runs: runs::read(&world.programs.logs),
            accepted: accepted.by_id(),
        };
        let mut cursor = String::new();
        loop {
            let page = world.client.get(&format!("/jobs?limit=1000{cursor}")).await;
            for job in page["items"].as_array().unwrap() {
                let before = ledger.jobs.insert(job["id"].as_str().unwrap().to_owned(), job.clone());
                ledger.n_listed_twice += usize::from(before.is_some());
            }
            let Some(next) = page["next_cursor"].as_str() else { return ledger };
            cursor = format!("&cursor={next}");
        }
    }

    /// Runs of a job that no record tells of: neither its success nor a failed or lost attempt.
    pub(crate) fn unrecorded(&self, id: &str) -> Vec<i32> {
        let mut runs = self.runs.get(id).cloned().unwrap_or_default();
        let job = &self.jobs[id];
        let succeeded = (job["state"] == "succeeded").then(|| i32::try_from(job["attempt"].as_i64().unwrap()).unwrap());
        let noted = self.attempts.get(id).into_iter().flatten().map(|(attempt, _)| *attempt);
        for recorded in noted.chain(succeeded) {
            if let Some(at) = runs.iter().position(|attempt| *attempt == recorded) {
                runs.swap_remove(at);
            }
        }
        runs
    }
}

async fn rows(ctx: &Context) -> Rows {
    sqlx::query_as(
        "SELECT (SELECT count(*) FROM jobs) AS live,
                (SELECT count(*) FROM jobs_ended) AS ended,
                (SELECT count(DISTINCT id) FROM jobs_all) AS distinct_ids,
                (SELECT count(*) FROM jobs_ended
                 WHERE kind = 'debug.echo' AND state = 'succeeded' AND result::text IS DISTINCT FROM payload::text) AS wrong_results,
                (SELECT count(*) FROM jobs_ended WHERE state <> 'succeeded' AND result IS NOT NULL) AS stray_results",
    )
    .fetch_one(&ctx.pg)
    .await
    .unwrap()
}

async fn attempts(ctx: &Context) -> HashMap<String, Vec<(i32, String)>> {
    let noted: Vec<(String, i32, String)> =
        sqlx::query_as("SELECT job_id::text, attempt, outcome FROM job_attempts WHERE started_at IS NOT NULL ORDER BY job_id, attempt")
            .fetch_all(&ctx.pg)
            .await
            .unwrap();
    let mut by_job: HashMap<String, Vec<(i32, String)>> = HashMap::new();
    for (id, attempt, outcome) in noted {
        by_job.entry(id).or_default().push((attempt, outcome));
    }
    by_job
}

/// Waits until no job is left to do, and nothing of any is left in Redis.
pub(crate) async fn until_drained(world: &World) {
    while !what_is_left(world).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What both servers still hold of jobs that are to be done, in words.
pub(crate) async fn what_is_left(world: &World) -> String {
    let mut left = Vec::new();
    let query = "SELECT format('%s %s attempt %s failures %s cancel %s due %s', id, queue, attempt, failures, cancel_requested_at, run_at) FROM jobs";
    match sqlx::query_scalar::<_, String>(query).fetch_all(&world.ctx.pg).await {
        Ok(rows) => left.extend(rows),
        Err(error) => left.push(error.to_string()),
    }
    for queue in ["default", "chaos"] {
        // The first one says which Redis this is, and stays.
        for key in &world.ctx.keys.queue_scripts(queue)[1..] {
            let mut connection = world.ctx.redis.connection();
            match redis::cmd("EXISTS").arg(key).query_async(&mut connection).await {
                Ok(false) => {}
                Ok(true) => left.push(in_words(key, &mut connection).await),
                Err(error) => left.push(error.to_string()),
            }
        }
    }
    left.truncate(40);
    left.join("\n")
}

/// A key with what is in it.
async fn in_words(key: &str, connection: &mut Connection) -> String {
    let script = redis::Script::new(
        "local kind = redis.call('TYPE', KEYS[1]).ok
        local read = { hash = { 'HRANDFIELD', KEYS[1], 5, 'WITHVALUES' }, list = { 'LRANGE', KEYS[1], 0, 4 }, zset = { 'ZRANGE', KEYS[1], 0, 4, 'WITHSCORES' } }
        return read[kind] and redis.call(unpack(read[kind])) or { kind }",
    );
    let parts: Result<Vec<String>, _> = script.key(key).invoke_async(connection).await;
    format!("{key}: {parts:?}")
}
