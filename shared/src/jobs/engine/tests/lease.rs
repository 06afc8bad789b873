//! Leasing: order, pause, identity of the Redis, and the token that guards each lease.

use super::*;
use crate::jobs::{
    Progress,
    engine::{Paused, progress, set_paused},
};

/// Rule 1: every delivery has its own number.
#[tokio::test]
async fn the_attempt_rises_with_every_lease() {
    let fixture = Fixture::new().await;
    fixture.job().await;
    for attempt in 1..4 {
        let holder = worker();
        let (token, standing) = fixture.lease_one(&holder).await;
        assert_eq!(token.attempt, attempt);
        let action = Action::Requeue { run_at: fixture.ctx.clock.now() };
        fixture.finish(&holder, Finish { token, action, standing }).await;
    }
}

#[tokio::test]
async fn the_most_urgent_comes_first() {
    let fixture = Fixture::new().await;
    let mut jobs = Vec::new();
    for priority in [2, 9, 5] {
        let job = fixture.row_at(fixture.ctx.clock.now(), priority).await;
        fixture.enqueue(&job).await;
        jobs.push(job.id);
    }
    let order: Vec<JobId> = fixture.lease(&worker(), 3).await.iter().map(|leased| leased.id).collect();
    assert_eq!(order, [jobs[1], jobs[2], jobs[0]]);
}

#[tokio::test]
async fn the_least_urgent_is_not_starved() {
    let fixture = Fixture::new().await;
    let patient = fixture.row_at(fixture.ctx.clock.now(), 0).await;
    fixture.enqueue(&patient).await;
    let urgent = Enqueue { standing: Standing { priority: 9, ..patient.standing }, ..patient.clone() };
    let jobs: Vec<Enqueue> = (0..100).map(|_| Enqueue { id: JobId::new(), ..urgent.clone() }).collect();
    crate::jobs::engine::enqueue(&fixture.ctx, &fixture.queue, &jobs).await.unwrap();
    let mut n_before = 0;
    while fixture.lease_one(&worker()).await.0.job_id != patient.id {
        n_before += 1;
    }
    assert!(n_before < 16, "every 16th lease takes the oldest: {n_before} came before it");
}

#[tokio::test]
async fn a_paused_queue_leases_nothing_until_it_is_resumed() {
    let fixture = Fixture::new().await;
    fixture.job().await;
    set_paused(&fixture.ctx, &fixture.queue, Paused::Yes).await.unwrap();
    assert_eq!(fixture.lease(&worker(), 1).await.len(), 0);
    set_paused(&fixture.ctx, &fixture.queue, Paused::No).await.unwrap();
    assert_eq!(fixture.lease(&worker(), 1).await.len(), 1);
}

#[tokio::test]
async fn progress_lies_in_the_lease_and_only_its_holder_writes_it() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (token, standing) = fixture.start_one(&worker()).await;
    let progress = Progress::kept(33.5, Some("a: b")).unwrap();
    let stranger = Token { nonce: Nonce::new(), ..token };
    let told = [(stranger, Progress::kept(99.0, None).unwrap())];
    assert_eq!(progress::write(&mut fixture.connection.clone(), &fixture.keys, &told).await.unwrap(), 0);
    for _ in 0..2 {
        let told = [(token, progress.clone())];
        assert_eq!(progress::write(&mut fixture.connection.clone(), &fixture.keys, &told).await.unwrap(), 1);
    }
    // It stays through a mark, and is no part of the fence.
    let holder = Holder { nonce: token.nonce, ..worker() };
    assert!(fixture.step(&holder, Step { mark: vec![token], ..Step::default() }).await.refused.is_empty());
    let leases = crate::jobs::engine::leases(&fixture.ctx, &fixture.queue, &[job.id]).await.unwrap();
    assert_eq!(leases[&job.id].progress, Some(progress));
    fixture.finish(&holder, end(token, standing, "succeeded")).await;
    assert!(crate::jobs::engine::leases(&fixture.ctx, &fixture.queue, &[job.id]).await.unwrap().is_empty());
}

/// Rule 6: a Redis that lost its memory, or is another one, leases nothing before the reconciler has been there.
#[tokio::test]
async fn a_redis_that_does_not_know_the_queue_leases_nothing() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    redis::cmd("HSET").arg(fixture.keys.cfg()).arg("run_id").arg("0".repeat(40)).exec_async(&mut fixture.connection.clone()).await.unwrap();
    let stepped = fixture.step(&worker(), Step { want: 1, ..Step::default() }).await;
    assert!(!stepped.known && stepped.leased.is_empty());
    assert!(!fixture.sweep().await.is_known);
    fixture.restore().await;
    assert_eq!(fixture.lease_one(&worker()).await.0.job_id, job.id);
}

/// Rule 2: the attempt's number alone proves nothing; another process may have leased under the same one.
#[tokio::test]
async fn another_process_cannot_mark_finish_or_extend_a_lease() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (token, standing) = fixture.lease_one(&worker()).await;
    let thief = worker();
    let forged = Token { nonce: thief.nonce, ..token };
    let stepped = fixture.step(&thief, Step { mark: vec![forged], ..Step::default() }).await;
    assert_eq!(stepped.refused, [job.id]);
    fixture.finish(&thief, end(forged, standing, "succeeded")).await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("l4:1:0:0:0:0"), "a finish without the token changes nothing");
    let lost = scripts::heartbeat(&mut fixture.connection.clone(), &fixture.keys, thief.lease, &[forged]).await.unwrap().0;
    assert_eq!(lost, [job.id]);
}

/// The fence at both beats: a delivery that was given up cannot be marked, and one that was marked before cannot be finished.
#[tokio::test]
async fn a_stale_token_is_refused_at_both_beats() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let stopped = worker();
    let (stale, standing) = fixture.start_one(&stopped).await;
    fixture.step(&stopped, Step { mark: vec![stale], ..Step::default() }).await;
    fixture.expire_leases().await;
    fixture.sweep().await;
    let late = fixture.conclusion(stale, standing, done());
    let settled = crate::jobs::engine::settle::write(&fixture.ctx, &[late]).await.unwrap().remove(0);
    assert_eq!(settled.verdict, crate::jobs::engine::settle::Verdict::Refused);
    let stepped = fixture.step(&stopped, Step { mark: vec![stale], finish: vec![settled.finish], ..Step::default() }).await;
    assert_eq!(stepped.refused, [job.id]);
    let row = fixture.row_of(job.id).await.unwrap();
    assert_eq!((row.state.as_str(), row.standing.failures), ("pending", 1), "only the loss is recorded");
}

#[tokio::test]
async fn a_released_job_is_the_next_and_costs_nothing() {
    let fixture = Fixture::new().await;
    let first = fixture.job().await;
    fixture.job().await;
    let holder = worker();
    let (token, mut standing) = fixture.lease_one(&holder).await;
    standing.attempt -= 1;
    let mut pubsub = fixture.ctx.redis.pubsub().await.unwrap();
    pubsub.subscribe(fixture.ctx.keys.doorbell()).await.unwrap();
    fixture.finish(&holder, Finish { token, action: Action::Release, standing }).await;
    let ring = tokio::time::timeout(Duration::from_secs(5), futures_util::StreamExt::next(&mut pubsub.on_message())).await;
    assert_eq!(ring.unwrap().unwrap().get_payload::<String>().unwrap(), fixture.queue.as_str(), "who has room need not wait for a poll");
    assert_eq!(fixture.copy(first.id).await.as_deref(), Some("r4:0:0:0:0:0"));
    assert_eq!(fixture.lease_one(&worker()).await.0.job_id, first.id);
}

#[tokio::test]
async fn those_who_wait_hear_the_end_and_others_do_not() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let watched = fixture.ctx.keys.queue(fixture.queue.as_str(), "watched");
    let expiry = i64::MAX / 1_000_000;
    redis::cmd("ZADD").arg(&watched).arg(expiry).arg(job.id.to_string()).exec_async(&mut fixture.connection.clone()).await.unwrap();
    let mut pubsub = fixture.ctx.redis.pubsub().await.unwrap();
    pubsub.subscribe(fixture.ctx.keys.job_ends()).await.unwrap();
    let holder = worker();
    let (token, standing) = fixture.lease_one(&holder).await;
    fixture.finish(&holder, end(token, standing, "succeeded")).await;
    let message = tokio::time::timeout(Duration::from_secs(5), futures_util::StreamExt::next(&mut pubsub.on_message())).await;
    assert_eq!(message.unwrap().unwrap().get_payload::<String>().unwrap(), format!("{} succeeded", job.id));
    let left: u64 = redis::cmd("ZCARD").arg(&watched).query_async(&mut fixture.connection.clone()).await.unwrap();
    assert_eq!(left, 0);
}

/// Rule 11: a job that nobody waits for costs no announcement.
#[tokio::test]
async fn nobody_hears_the_end_of_a_job_that_nobody_waits_for() {
    let fixture = Fixture::new().await;
    let (unwatched, watched) = (fixture.job().await, fixture.job().await);
    let watches = fixture.ctx.keys.queue(fixture.queue.as_str(), "watched");
    let expiry = i64::MAX / 1_000_000;
    redis::cmd("ZADD").arg(&watches).arg(expiry).arg(watched.id.to_string()).exec_async(&mut fixture.connection.clone()).await.unwrap();
    let mut pubsub = fixture.ctx.redis.pubsub().await.unwrap();
    pubsub.subscribe(fixture.ctx.keys.job_ends()).await.unwrap();
    let holder = worker();
    for id in [unwatched.id, watched.id] {
        let (token, standing) = fixture.lease_one(&holder).await;
        assert_eq!(token.job_id, id);
        fixture.finish(&holder, end(token, standing, "succeeded")).await;
    }
    let message = tokio::time::timeout(Duration::from_secs(5), futures_util::StreamExt::next(&mut pubsub.on_message())).await;
    assert_eq!(message.unwrap().unwrap().get_payload::<String>().unwrap(), format!("{} succeeded", watched.id), "the first that is heard");
}
