//! The desk where remote workers wait.

use super::{Fixture, worker};
use crate::jobs::{
    engine::{Limits, remote::desk::Desk, set_limits},
    queues::Rate,
};
use crate::testing::{RedisServer, TestStores};
use futures_util::future::join_all;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

#[tokio::test]
async fn a_crowd_that_waits_costs_redis_what_one_does() {
    let mut stores = TestStores::create().await;
    let redis = RedisServer::start().await;
    stores.use_redis(&redis);
    let ctx = stores.context(&[("WORKER_POLL_MS", "100")]);
    let (desk, runtime) = (Desk::default(), Handle::current());
    let began = Instant::now();
    let waits = (0..200).map(|_| {
        let (desk, ctx, runtime) = (&desk, &ctx, &runtime);
        async move {
            let wish = (vec!["q".parse().unwrap()], 1);
            desk.wait(ctx, runtime, &worker(), wish, Instant::now() + Duration::from_millis(500)).await
        }
    });
    assert!(join_all(waits).await.iter().all(Option::is_none));
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut ctx.redis.connection()).await.unwrap();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse::<u128>().ok());
    // Two hundred of their own would make two hundred times as many; the doorbell and a script that is new add some of theirs.
    let calls_max = 2 * began.elapsed().as_millis() / 100 + 5;
    assert!(calls.unwrap() <= calls_max, "{calls:?} calls, where one that waits makes at most {calls_max}");
}

#[tokio::test]
async fn jobs_go_to_who_has_waited_longest_and_back_unspent_when_nobody_takes_them() {
    let fixture = Fixture::new().await;
    let (desk, runtime) = (Desk::default(), Handle::current());
    let soon = || Instant::now() + Duration::from_secs(10);
    let wish = || (vec![fixture.queue.clone()], 5);
    let (first, second) = (worker(), worker());
    let waits = async {
        let one = desk.wait(&fixture.ctx, &runtime, &first, wish(), soon());
        let other = desk.wait(&fixture.ctx, &runtime, &second, wish(), Instant::now() + Duration::from_millis(50));
        tokio::join!(one, other)
    };
    let ((served, unserved), job) = tokio::join!(waits, fixture.job());
    assert!(unserved.is_none());
    let batch = served.unwrap();
    assert_eq!((batch.holder.nonce, batch.leased()[0].id), (first.nonce, job.id));
    drop(batch);
    let again = desk.wait(&fixture.ctx, &runtime, &second, wish(), soon()).await.unwrap();
    assert_eq!((again.leased()[0].id, again.leased()[0].standing.attempt), (job.id, 1), "it was not counted");
    again.hand_over();
    assert_eq!(fixture.copy(job.id).await.unwrap(), "l4:1:0:0:0:0");
}

/// The end of its runtime stands for a panic: either way the task is gone.
#[tokio::test]
async fn a_desk_whose_task_is_gone_begins_anew() {
    let fixture = Fixture::new().await;
    let desk = Desk::default();
    let wish = || (vec![fixture.queue.clone()], 1);
    let another = tokio::runtime::Runtime::new().unwrap();
    let soon = Instant::now() + Duration::from_millis(50);
    assert!(desk.wait(&fixture.ctx, another.handle(), &worker(), wish(), soon).await.is_none());
    tokio::task::spawn_blocking(move || drop(another)).await.unwrap();
    let job = fixture.job().await;
    let later = Instant::now() + Duration::from_secs(10);
    let batch = desk.wait(&fixture.ctx, &Handle::current(), &worker(), wish(), later).await.unwrap();
    assert_eq!(batch.leased()[0].id, job.id);
    batch.hand_over();
}

#[tokio::test]
async fn a_queue_with_a_rate_is_asked_again_when_that_lets_a_job_go() {
    let fixture = Fixture::new().await;
    // Two at once, and one every 300 ms after that; nobody polls meanwhile.
    let ctx = fixture._stores.context(&[("WORKER_POLL_MS", "60000")]);
    let limits = Limits { rate: Some(Rate { limit: 2, per_ms: 600 }), ..Limits::default() };
    set_limits(&ctx, &fixture.queue, &limits).await.unwrap();
    for _ in 0..4 {
        fixture.job().await;
    }
    let (desk, runtime, holder) = (Desk::default(), Handle::current(), worker());
    let began = Instant::now();
    let mut n_leased = 0;
    while n_leased < 4 {
        let wish = (vec![fixture.queue.clone()], 10);
        let batch = desk.wait(&ctx, &runtime, &holder, wish, Instant::now() + Duration::from_secs(20)).await.expect("a job comes");
        n_leased += batch.leased().len();
        batch.hand_over();
    }
    assert!(began.elapsed() >= Duration::from_millis(500), "no faster than the rate: {:?}", began.elapsed());
}
