//! Concurrent submits share statements, and nothing else.

use super::*;
use crate::{
    Code,
    jobs::{coalesce, write},
};
use futures_util::future::join_all;
use std::{collections::HashSet, time::Instant};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_hundred_parallel_submits_are_each_written_once() {
    let fixture = Fixture::new().await;
    let jobs = join_all((0..500).map(|n| fixture.submit(json!({"kind": "debug.echo", "payload": n})))).await;
    let ids = jobs.into_iter().map(|job| job.unwrap().id).collect::<HashSet<_>>();
    assert_eq!(ids.len(), 500);
    assert_eq!(fixture.count("jobs").await, 500);
    let queue = "default".parse().unwrap();
    assert_eq!(crate::jobs::engine::depths(&fixture.ctx, &queue).await.unwrap().queued, 500);
}

#[tokio::test]
async fn more_than_may_wait_are_refused_and_written_by_none() {
    let fixture = Fixture::with(&[("SUBMIT_QUEUE_MAX", "10")]).await;
    fixture.echo(json!({})).await;
    let jobs = join_all((0..100).map(|_| fixture.submit(json!({"kind": "debug.echo"})))).await;
    let refused = jobs.iter().filter_map(|job| job.as_ref().err()).collect::<Vec<_>>();
    assert!(!refused.is_empty());
    assert!(refused.iter().all(|error| error.code == Code::Overloaded && error.retry_after.is_some()));
    assert_eq!(fixture.count("jobs").await, 101 - i64::try_from(refused.len()).unwrap());
}

#[tokio::test]
async fn a_row_that_the_database_refuses_does_not_take_its_neighbours_with_it() {
    let fixture = Fixture::new().await;
    let mut jobs = Vec::new();
    for _ in 0..9 {
        jobs.push(prepare(&fixture.ctx, &fixture.user, json!({"kind": "debug.echo"})).await.unwrap());
    }
    // The checks before would not let this through.
    jobs[4].priority = 77;
    jobs[7].id = jobs[0].id;
    let verdicts = write::insert_each(write::Target::Pool(&fixture.ctx.pg), &jobs.iter().collect::<Vec<_>>()).await;
    let refused = verdicts.iter().enumerate().filter(|(_, verdict)| verdict.is_err()).map(|(at, _)| at).collect::<Vec<_>>();
    assert_eq!(refused, [4, 7]);
    assert_eq!(fixture.count("jobs").await, 7);
}

/// As a mistake of ours would make it: the checks before let no such time through, and the driver panics over it.
#[tokio::test]
async fn a_job_that_writing_panics_over_does_not_take_its_neighbours_with_it() {
    let fixture = Fixture::new().await;
    let mut jobs = Vec::new();
    for _ in 0..9 {
        jobs.push(prepare(&fixture.ctx, &fixture.user, json!({"kind": "debug.echo"})).await.unwrap());
    }
    jobs[4].expires_at = Some(time::macros::datetime!(9999-12-31 23:59 -1));
    // None of them yields before it waits, so they are one batch.
    let verdicts = join_all(jobs.into_iter().map(|job| coalesce::write_together(&fixture.ctx, job))).await;
    let refused = verdicts.iter().enumerate().filter_map(|(at, verdict)| Some((at, verdict.as_ref().err()?.code))).collect::<Vec<_>>();
    assert_eq!(refused, [(4, Code::Internal)]);
    assert_eq!(fixture.count("jobs").await, 8);
    assert_eq!(fixture.lease().await, 8, "they are announced");
    fixture.echo(json!({})).await;
}

#[tokio::test]
async fn an_unreachable_database_refuses_and_leaves_nobody_waiting() {
    let fixture = Fixture::new().await;
    fixture.echo(json!({})).await;
    let job = prepare(&fixture.ctx, &fixture.user, json!({"kind": "debug.echo"})).await.unwrap();
    fixture.ctx.pg.close().await;
    let error = submitting::submit(&fixture.ctx, job).await.unwrap_err();
    assert_eq!(error.code, Code::DatabaseUnavailable);
    assert!(error.retry_after.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_behind_a_slow_commit_get_help_that_is_gone_afterwards() {
    let fixture = Fixture::new().await;
    fixture.echo(json!({})).await;
    let mut slow = fixture.ctx.pg.begin().await.unwrap();
    sqlx::query("LOCK TABLE jobs IN EXCLUSIVE MODE").execute(&mut *slow).await.unwrap();
    let submits = (0..400).map(|n| fixture.submit(json!({"kind": "debug.echo", "payload": n})));
    let let_go = async {
        // One came after the others had waited too long.
        let began = Instant::now();
        while fixture.ctx.jobs.coalescer.n_flushers() < 2 {
            assert!(began.elapsed() < PATIENCE, "nobody helped");
            let late = fixture.ctx.clone();
            let job = prepare(&late, &fixture.user, json!({"kind": "debug.echo"})).await.unwrap();
            tokio::spawn(async move { submitting::submit(&late, job).await });
            sleep(Duration::from_millis(1)).await;
        }
        assert!(fixture.ctx.jobs.coalescer.n_flushers() <= 4);
        slow.rollback().await.unwrap();
    };
    let (jobs, ()) = tokio::join!(join_all(submits), let_go);
    let ids = jobs.into_iter().map(|job| job.unwrap().id).collect::<HashSet<_>>();
    assert_eq!(ids.len(), 400);
    let began = Instant::now();
    while fixture.ctx.jobs.coalescer.n_flushers() > 0 {
        assert!(began.elapsed() < PATIENCE, "a flusher stayed");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(fixture.count("jobs").await > 400);
}
