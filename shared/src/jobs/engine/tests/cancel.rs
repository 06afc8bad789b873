//! Cancel from outside a worker, in every place a job can be in.

use super::*;
use crate::jobs::engine::{CancelAnswer, cancel, forget, scripts::Taken, take_to_delete};
use futures_util::StreamExt;

async fn request_cancel(fixture: &Fixture, id: JobId) -> CancelAnswer {
    sqlx::query("UPDATE jobs SET cancel_requested_at = now() WHERE id = $1").bind(id.0).execute(&fixture.ctx.pg).await.unwrap();
    cancel(&fixture.ctx, &fixture.queue, id).await.unwrap()
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once() {
    let fixture = Fixture::new().await;
    let ready = fixture.job().await;
    let delayed = fixture.row_at(fixture.ctx.clock.now() + Duration::from_secs(60), 4).await;
    fixture.enqueue(&delayed).await;
    for id in [ready.id, delayed.id] {
        assert_eq!(request_cancel(&fixture, id).await, CancelAnswer::Cancelled);
        assert_eq!(fixture.row_of(id).await.unwrap().state, "cancelled");
        assert_eq!(fixture.copy(id).await, None);
    }
    assert_eq!(fixture.lease(&worker(), 10).await.len(), 0);
}

#[tokio::test]
async fn a_job_that_redis_does_not_know_is_cancelled_by_its_row() {
    let fixture = Fixture::new().await;
    let job = fixture.row().await;
    assert_eq!(request_cancel(&fixture, job.id).await, CancelAnswer::Cancelled);
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "cancelled");
}

#[tokio::test]
async fn a_running_job_hears_of_it_by_the_doorbell_and_by_its_heartbeat() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let holder = worker();
    let (token, _) = fixture.start_one(&holder).await;
    let mut pubsub = fixture.ctx.redis.pubsub().await.unwrap();
    pubsub.subscribe(fixture.ctx.keys.doorbell()).await.unwrap();
    assert_eq!(request_cancel(&fixture, job.id).await, CancelAnswer::Signalled);
    let asked = format!("default {}", job.id);
    let mut messages = pubsub.on_message();
    let heard = async {
        // The ring of its submit may come late, from another node.
        while messages.next().await.expect("the subscription lasts").get_payload::<String>().unwrap() != asked {}
    };
    tokio::time::timeout(Duration::from_secs(5), heard).await.unwrap();
    drop(messages);
    let cancels = scripts::heartbeat(&mut fixture.connection.clone(), &fixture.keys, holder.lease, &[token]).await.unwrap().1;
    assert_eq!(cancels, [job.id]);
}

/// The request came between the row's retry and Redis' hearing of it.
#[tokio::test]
async fn a_job_requeued_with_its_cancel_asked_for_is_reported() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let holder = worker();
    let (token, standing) = fixture.start_one(&holder).await;
    let failed = fixture.conclusion(token, standing, Outcome::retry("boom", "it broke"));
    let settled = crate::jobs::engine::settle::write(&fixture.ctx, &[failed]).await.unwrap().remove(0);
    assert_eq!(request_cancel(&fixture, job.id).await, CancelAnswer::Signalled);
    crate::jobs::engine::apply(&fixture.ctx, &fixture.keys, vec![settled.finish]).await.unwrap();
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "cancelled");
    assert_eq!(fixture.copy(job.id).await, None);
}

#[tokio::test]
async fn an_ended_job_stays_as_it_ended() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let holder = worker();
    let (token, standing) = fixture.start_one(&holder).await;
    let conclusion = fixture.conclusion(token, standing, done());
    crate::jobs::engine::settle::conclude_now(&fixture.ctx, &fixture.keys, conclusion).await.unwrap();
    assert_eq!(request_cancel(&fixture, job.id).await, CancelAnswer::Ended("succeeded"));
}

#[tokio::test]
async fn a_job_taken_to_be_deleted_comes_back_unspent_unless_it_is_forgotten() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let Taken::Taken(..) = take_to_delete(&fixture.ctx, &fixture.queue, job.id).await.unwrap() else { panic!("it waits") };
    assert_eq!(fixture.lease(&worker(), 1).await.len(), 0);
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.row_of(job.id).await.unwrap().standing.failures, 0);
    let Taken::Taken(token, standing) = take_to_delete(&fixture.ctx, &fixture.queue, job.id).await.unwrap() else { panic!("it is back") };
    forget(&fixture.ctx, &fixture.queue, token, standing).await.unwrap();
    assert_eq!(fixture.copy(job.id).await, None);
}
