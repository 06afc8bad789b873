//! What remote workers say and ask while Redis answers late or not at all: nothing is counted against a job, and nothing stays leased
//! that nobody holds.

use super::*;
use crate::{
    jobs::{
        JobState,
        engine::remote::{
            desk::Desk,
            settle::{Answer, End, settle},
        },
    },
    testing::RedisServer,
};
use std::time::Instant;
use tokio::runtime::Handle;

impl Fixture {
    /// On a Redis of its own, which the test may stop.
    async fn on(redis: &RedisServer, overrides: &[(&str, &str)]) -> Self {
        let mut stores = TestStores::create().await;
        stores.use_redis(redis);
        let ctx = stores.context(overrides);
        let queue = QueueName::default();
        let fixture = Self { keys: QueueKeys::new(&ctx.keys, &queue), connection: ctx.redis.connection(), queue, ctx, _stores: stores };
        fixture.restore().await;
        fixture
    }

    async fn settle(&self, holder: &Holder, token: Token, end: End) -> Answer {
        settle(&self.ctx, &self.queue, holder, vec![(token, end)]).await.unwrap()[0]
    }
}

#[tokio::test]
async fn a_release_that_is_told_again_is_answered_as_the_first_was() {
    let fixture = Fixture::new().await;
    fixture.job().await;
    let (first, second) = (worker(), worker());
    let (token, _) = fixture.start_one(&first).await;
    let queued = Answer::Settled(JobState::Queued);
    assert_eq!(fixture.settle(&first, token, End::Release).await, queued);
    assert_eq!(fixture.settle(&first, token, End::Release).await, queued);
    assert_eq!(fixture.settle(&first, token, End::Outcome(done())).await, Answer::LeaseLost, "that is no release");
    let (next, _) = fixture.start_one(&second).await;
    assert_eq!(fixture.settle(&first, token, End::Release).await, queued, "while another has it");
    let later = Token { attempt: next.attempt, ..token };
    assert_eq!(fixture.settle(&first, later, End::Release).await, Answer::LeaseLost, "that delivery was never its");
    assert_eq!(fixture.settle(&second, next, End::Outcome(done())).await, Answer::Settled(JobState::Succeeded));
    assert_eq!(fixture.settle(&first, token, End::Release).await, Answer::LeaseLost);
}

#[tokio::test]
async fn a_release_of_a_lease_that_was_lost_is_refused() {
    let fixture = Fixture::new().await;
    fixture.job().await;
    let holder = worker();
    let (token, _) = fixture.start_one(&holder).await;
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.settle(&holder, token, End::Release).await, Answer::LeaseLost, "it counted as a failure");
}

#[tokio::test]
async fn a_release_that_redis_did_not_take_is_not_told_to_be_done() {
    let mut redis = RedisServer::start().await;
    let fixture = Fixture::on(&redis, &[]).await;
    fixture.job().await;
    fixture.job().await;
    let holder = worker();
    let (released, _) = fixture.start_one(&holder).await;
    let (finished, _) = fixture.start_one(&holder).await;
    let mut blocker = fixture.ctx.pg.begin().await.unwrap();
    sqlx::query("SELECT id FROM jobs WHERE id = $1 FOR UPDATE").bind(finished.job_id.0).execute(&mut *blocker).await.unwrap();
    let ends = vec![(released, End::Release), (finished, End::Outcome(done()))];
    let settling = tokio::spawn({
        let (ctx, queue) = (fixture.ctx.clone(), fixture.queue.clone());
        async move { settle(&ctx, &queue, &holder, ends).await }
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_writing = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while !sqlx::query_scalar::<_, bool>(is_writing).fetch_one(&fixture.ctx.pg).await.unwrap() {
        assert!(Instant::now() < deadline, "the outcomes are being written");
        tokio::task::yield_now().await;
    }
    redis.kill();
    blocker.rollback().await.unwrap();
    settling.await.unwrap().unwrap_err();
    assert_eq!(fixture.row_of(finished.job_id).await.unwrap().state, "succeeded", "and may be told again");
}

#[tokio::test]
async fn what_was_leased_by_calls_whose_answer_got_lost_goes_to_others_unspent() {
    const N_JOBS: usize = 20;
    let redis = RedisServer::start().await;
    let fixture = Fixture::on(&redis, &[("REDIS_ACQUIRE_TIMEOUT_MS", "100"), ("WORKER_POLL_MS", "50")]).await;
    for _ in 0..N_JOBS {
        fixture.job().await;
    }
    let (desk, runtime) = (Desk::default(), Handle::current());
    let deadline = Instant::now() + Duration::from_secs(15);
    // The script is known, as it is to a Redis that has served for a while.
    fixture.step(&worker(), Step::default()).await;
    // Calls wait for so long, and then run all the same.
    redis::cmd("CLIENT").arg("PAUSE").arg(700).exec_async(&mut fixture.connection.clone()).await.unwrap();
    let (mut handed, holder) = (Vec::new(), worker());
    while handed.len() < N_JOBS {
        let batch = desk.wait(&fixture.ctx, &runtime, &holder, (vec![fixture.queue.clone()], 8), deadline).await;
        let batch = batch.expect("every job is handed out long before its lease would expire");
        handed.extend(batch.leased().iter().map(|leased| (leased.id, leased.standing.attempt)));
        // As if they were started.
        let token = |leased: &Leased| Token { job_id: leased.id, attempt: leased.standing.attempt, nonce: holder.nonce };
        let started = batch.leased().iter().map(token).collect();
        fixture.step(&holder, Step { started, ..Step::default() }).await;
        batch.hand_over();
    }
    handed.sort_unstable();
    handed.dedup();
    assert_eq!(handed.len(), N_JOBS, "each once");
    assert!(handed.iter().all(|(_, attempt)| *attempt == 1), "{handed:?}");
}
