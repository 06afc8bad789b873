//! Copies: replaced by newer ones only, and refused when they are too old to be believed.

use super::*;
use crate::jobs::engine::scripts::{Places, enqueue_as_of};

async fn redis_now_ms(connection: &mut Connection) -> i64 {
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(connection).await.unwrap();
    seconds * 1_000 + micros / 1_000
}

#[tokio::test]
async fn a_due_job_is_ready_and_a_later_one_is_delayed() {
    let fixture = Fixture::new().await;
    let due = fixture.job().await;
    let later = fixture.row_at(fixture.ctx.clock.now() + Duration::from_secs(60), 7).await;
    fixture.enqueue(&later).await;
    assert_eq!(fixture.copy(due.id).await.as_deref(), Some("r4:0:0:0:0:0"));
    assert_eq!(fixture.copy(later.id).await.as_deref(), Some("d7:0:0:0:0:0"));
    assert_eq!(fixture.lease(&worker(), 10).await.len(), 1);
}

#[tokio::test]
async fn enqueueing_twice_makes_one_delivery() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    fixture.enqueue(&job).await;
    assert_eq!(fixture.lease(&worker(), 10).await.len(), 1);
}

/// Rule 7: an older copy never replaces a newer one, nor a lease.
#[tokio::test]
async fn a_newer_copy_replaces_an_older_one_and_never_the_other_way_round() {
    let fixture = Fixture::new().await;
    let mut job = fixture.job().await;
    job.standing.attempt = 3;
    fixture.enqueue(&job).await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("r4:3:0:0:0:0"));
    job.standing.attempt = 1;
    fixture.enqueue(&job).await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("r4:3:0:0:0:0"));
    fixture.lease_one(&worker()).await;
    job.standing.attempt = 3;
    fixture.enqueue(&job).await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("l4:4:0:0:0:0"), "a lease above the row's attempt is being worked on");
}

/// Rule 7: a row at or above the lease's attempt has concluded that delivery, so its lease is void.
#[tokio::test]
async fn a_row_that_concluded_the_delivery_takes_its_lease_away() {
    let fixture = Fixture::new().await;
    let mut job = fixture.job().await;
    let holder = worker();
    let (token, _) = fixture.lease_one(&holder).await;
    job.standing.attempt = 1;
    fixture.enqueue(&job).await;
    let stepped = fixture.step(&holder, Step { mark: vec![token], ..Step::default() }).await;
    assert_eq!(stepped.refused, [job.id]);
    assert_eq!(fixture.lease_one(&worker()).await.0.attempt, 2);
}

/// Rule 7: what was read long ago may be over by now.
#[tokio::test]
async fn a_copy_read_more_than_five_seconds_ago_is_refused() {
    let fixture = Fixture::new().await;
    let job = fixture.row().await;
    let mut connection = fixture.connection.clone();
    let now_ms = redis_now_ms(&mut connection).await;
    let jobs = [job];
    assert_eq!(enqueue_as_of(&mut connection, &fixture.keys, &jobs, Some(now_ms - 6_000), Places::Kept).await.unwrap(), None);
    assert_eq!(fixture.copy(jobs[0].id).await, None);
    assert_eq!(enqueue_as_of(&mut connection, &fixture.keys, &jobs, Some(now_ms), Places::Kept).await.unwrap(), Some(1));
}

#[tokio::test]
async fn thousands_at_once_fit() {
    let fixture = Fixture::new().await;
    let template = fixture.row().await;
    let jobs: Vec<Enqueue> = (0..2_500).map(|_| Enqueue { id: JobId::new(), ..template.clone() }).collect();
    crate::jobs::engine::enqueue(&fixture.ctx, &fixture.queue, &jobs).await.unwrap();
    assert_eq!(crate::jobs::engine::depths(&fixture.ctx, &fixture.queue).await.unwrap().queued, 2_500);
    assert_eq!(fixture.lease(&worker(), 1_000).await.len(), 1_000);
}
