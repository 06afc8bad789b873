//! Rule 10: what a process leaves that ended badly, below the level of processes.

use super::*;
use crate::jobs::engine::{
    outcome::{Company, RETURNS_MAX},
    salvage::{Fate, Running, Wreck, salvage, suspects},
};

fn running(fixture: &Fixture, token: Token) -> Running {
    let started_at = fixture.ctx.clock.now();
    Running { queue: fixture.queue.clone(), job_id: token.job_id, attempt: token.attempt, started_at, limit: None }
}

fn crashed() -> Fate {
    Fate::Crashed { how: "signal 6".to_owned(), company: Company::Shared }
}

/// The wreck of `worker`, where these were on record.
fn wreck(fixture: &Fixture, worker: &Holder, fates: Vec<(Token, Fate)>) -> Wreck {
    let running = fates.into_iter().map(|(token, fate)| (running(fixture, token), fate)).collect();
    Wreck { nonce: worker.nonce, salvor: Nonce::new(), worker_id: "w".to_owned(), running }
}

async fn salvaged(fixture: &Fixture, wreck: &Wreck) -> usize {
    salvage(&fixture.ctx, wreck, std::slice::from_ref(&fixture.queue)).await.unwrap()
}

#[tokio::test]
async fn what_ran_is_a_suspect_and_what_waited_is_ready_at_once() {
    let fixture = Fixture::new().await;
    let (ran, waited, others) = (fixture.job().await, fixture.job().await, fixture.job().await);
    let holder = worker();
    // Redis had not heard of its start yet: the black box had.
    let (token, _) = fixture.lease_one(&holder).await;
    fixture.lease_one(&holder).await;
    fixture.lease_one(&worker()).await;
    let wreck = wreck(&fixture, &holder, vec![(token, crashed())]);
    assert_eq!(salvaged(&fixture, &wreck).await, 2);
    assert_eq!(fixture.copy(ran.id).await.as_deref(), Some("r4:1:0:0:0:1"));
    assert_eq!(fixture.copy(waited.id).await.as_deref(), Some("r4:0:0:0:0:0"), "unspent, and not held against it");
    assert_eq!(fixture.copy(others.id).await.as_deref(), Some("l4:1:0:0:0:0"), "another process's lease");
    assert_eq!(fixture.attempts(ran.id).await, ["crashed"]);
    assert_eq!(suspects(&fixture.ctx, std::slice::from_ref(&fixture.queue)).await.unwrap(), 1);
    assert_eq!(salvaged(&fixture, &wreck).await, 0, "a second time finds nothing");
    assert_eq!(fixture.row_of(ran.id).await.unwrap().standing.crashes, 1);
}

#[tokio::test]
async fn what_was_settled_before_the_crash_stays_settled() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let holder = worker();
    let (token, standing) = fixture.start_one(&holder).await;
    let conclusion = fixture.conclusion(token, standing, done());
    store::conclude(&mut fixture.ctx.pg.acquire().await.unwrap(), &[&conclusion]).await.unwrap();
    salvaged(&fixture, &wreck(&fixture, &holder, vec![(token, crashed())])).await;
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "succeeded");
    assert_eq!(fixture.copy(job.id).await, None);
}

#[tokio::test]
async fn an_outcome_that_was_not_written_is_lost_with_the_process_and_costs_no_failure() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let holder = worker();
    let (token, _) = fixture.start_one(&holder).await;
    fixture.step(&holder, Step { mark: vec![token], ..Step::default() }).await;
    salvaged(&fixture, &wreck(&fixture, &holder, vec![])).await;
    // Its number is not used again: the statement that concludes it may still be on its way.
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("r4:1:0:0:1:0"));
    assert_eq!(fixture.row_of(job.id).await.unwrap().standing.failures, 0);
}

#[tokio::test]
async fn of_a_process_that_was_ended_for_one_job_only_that_one_is_to_blame() {
    let fixture = Fixture::new().await;
    let (late, neighbour) = (fixture.job().await, fixture.job().await);
    let holder = worker();
    let (first, _) = fixture.start_one(&holder).await;
    let (second, _) = fixture.start_one(&holder).await;
    let limit = Duration::from_secs(1);
    salvaged(&fixture, &wreck(&fixture, &holder, vec![(first, Fate::TimedOut { limit }), (second, Fate::Interrupted)])).await;
    assert_eq!(fixture.attempts(late.id).await, ["timeout"]);
    assert_eq!(fixture.row_of(late.id).await.unwrap().standing.failures, 1);
    assert!(fixture.attempts(neighbour.id).await.is_empty());
    assert_eq!(fixture.copy(neighbour.id).await.as_deref(), Some("r4:1:0:0:0:0"));
}

#[tokio::test]
async fn what_another_process_runs_meanwhile_is_left_to_it() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let dead = worker();
    let (token, _) = fixture.start_one(&dead).await;
    fixture.empty_redis().await;
    fixture.restore().await;
    crate::jobs::engine::reconcile::rebuild(&fixture.ctx, &fixture.queue).await.unwrap();
    fixture.lease_one(&worker()).await;
    salvaged(&fixture, &wreck(&fixture, &dead, vec![(token, crashed())])).await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("l4:1:0:0:0:0"));
    assert!(fixture.attempts(job.id).await.is_empty());
}

#[tokio::test]
async fn no_number_of_neighbours_that_crash_kills_a_job() {
    let fixture = Fixture::new().await;
    let innocent = fixture.job().await;
    for _ in 0..RETURNS_MAX + 2 {
        let holder = worker();
        fixture.lease_one(&holder).await;
        fixture.job().await;
        let (token, _) = fixture.lease_one(&holder).await;
        salvaged(&fixture, &wreck(&fixture, &holder, vec![(token, crashed())])).await;
    }
    assert_eq!(fixture.copy(innocent.id).await.as_deref(), Some("r4:0:0:0:0:0"));
    assert_eq!(fixture.row_of(innocent.id).await.unwrap().state, "pending");
}

#[tokio::test]
async fn a_job_that_comes_back_too_often_from_where_nothing_ran_is_dead() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    for _ in 0..=RETURNS_MAX {
        let holder = worker();
        fixture.lease_one(&holder).await;
        salvaged(&fixture, &wreck(&fixture, &holder, vec![])).await;
    }
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "dead");
}
