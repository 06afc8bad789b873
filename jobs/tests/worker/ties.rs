//! Batches and chains over several workers, of which some are killed, and a Redis that is emptied.

use crate::world::{WorkerProcess, World};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shared::{
    ids::{BatchId, JobId},
    jobs::{
        JobState, Origin,
        batches::{
            Batch, BatchState, NewBatch,
            operations::{self, Made},
        },
    },
};
use std::time::{Duration, Instant};

impl World {
    /// The world's caller, as an account.
    async fn sign_up(&self) {
        let sql = "INSERT INTO users (id, email, password_hash, role, created_at, updated_at)
            VALUES ($1, 'ada@example.org', '', 'operator', now(), now())";
        sqlx::query(sql).bind(self.caller.user_id.0).execute(&self.ctx.pg).await.unwrap();
    }

    async fn make_batch(&self, body: Value) -> Made {
        let new: NewBatch = serde_json::from_str(&body.to_string()).unwrap();
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let made = operations::create(&self.ctx, &mut tx, &self.caller, new, &Origin::default()).await.unwrap();
        tx.commit().await.unwrap();
        operations::announce(&self.ctx, &made).await;
        made
    }

    async fn until_batch(&self, id: BatchId, is_so: impl Fn(&Batch) -> bool) -> Batch {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let batch = operations::get(&self.ctx, &self.caller, id).await.unwrap();
            if is_so(&batch) {
                return batch;
            }
            assert!(Instant::now() < deadline, "the batch never was so: {batch:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn n_completions(&self, id: BatchId) -> i64 {
        let sql = "SELECT count(*) FROM jobs_all WHERE $1 = ANY (tags)";
        sqlx::query_scalar(sql).bind(format!("batch:{id}")).fetch_one(&self.ctx.pg).await.unwrap()
    }
}

fn kill(worker: WorkerProcess) {
    worker.signal(Signal::SIGKILL);
}

#[tokio::test]
async fn a_batch_and_what_waits_for_it_survive_killed_workers_and_an_emptied_redis() {
    let world = World::new().await;
    world.sign_up().await;
    let first = world.worker(&[("WORKER_CONCURRENCY", "4")]);
    let second = world.worker(&[("WORKER_CONCURRENCY", "4")]);
    let job = json!({"kind": "debug.sleep", "payload": {"ms": 20}, "retry": {"max_attempts": 10, "base_ms": 10, "max_ms": 20}});
    let made = world.make_batch(json!({"jobs": vec![job; 120], "on_complete": {"kind": "debug.echo", "payload": "all done"}})).await;
    let (id, members) = (made.answer.batch.id, made.answer.job_ids);
    let last = world.submit(json!({"kind": "debug.echo", "depends_on": members[100..120]})).await;
    let after = world.submit(json!({"kind": "debug.echo", "depends_on": [last]})).await;
    world.until_batch(id, |batch| batch.counts.succeeded >= 10).await;
    kill(first);
    world.until_batch(id, |batch| batch.counts.succeeded >= 40).await;
    world.empty_redis().await;
    world.until_batch(id, |batch| batch.counts.succeeded >= 70).await;
    let third = world.worker(&[("WORKER_CONCURRENCY", "4")]);
    kill(second);
    let batch = world.until_batch(id, |batch| batch.state == BatchState::Completed).await;
    assert_eq!((batch.counts.succeeded, batch.total), (120, 120), "{batch:?}");
    let completion = world.until(batch.completion_job_id.unwrap(), JobState::Succeeded).await;
    assert_eq!((completion.result.unwrap().get(), world.n_completions(id).await), (r#""all done""#, 1));
    world.until(after, JobState::Succeeded).await;
    assert_eq!(world.job(last).await.attempt, 1, "it was released once");
    drop(third);
}

#[tokio::test]
async fn a_chain_runs_in_its_order_and_ends_where_it_breaks() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let mut chain: Vec<JobId> = vec![world.sleep(50).await];
    for _ in 0..4 {
        chain.push(world.submit(json!({"kind": "debug.sleep", "payload": {"ms": 5}, "depends_on": [chain.last()]})).await);
    }
    let broken = json!({"kind": "debug.fail", "payload": {"message": "no"}, "depends_on": [chain[4]], "retry": {"max_attempts": 1}});
    let broken = world.submit(broken).await;
    let never = world.submit(json!({"kind": "debug.echo", "depends_on": [broken]})).await;
    let mut ends = Vec::new();
    for id in &chain {
        let job = world.until(*id, JobState::Succeeded).await;
        ends.push((job.started_at.unwrap(), job.finished_at.unwrap()));
    }
    assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0), "each begins when the one before it has ended: {ends:?}");
    let cancelled = world.until(never, JobState::Cancelled).await;
    assert_eq!(cancelled.error.unwrap().code, "dependency_failed");
}
