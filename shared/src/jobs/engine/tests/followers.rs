//! What is announced of jobs whose channel somebody is subscribed to.

use super::*;
use crate::jobs::{Progress, engine::progress};
use futures_util::StreamExt;

/// What is announced, as texts without their time.
async fn hear(fixture: &Fixture) -> impl FnMut(usize) -> std::pin::Pin<Box<dyn Future<Output = Vec<String>>>> + use<> {
    let mut pubsub = fixture.ctx.redis.pubsub().await.unwrap();
    pubsub.subscribe(fixture.ctx.keys.job_events()).await.unwrap();
    let messages = std::sync::Arc::new(tokio::sync::Mutex::new(pubsub.into_on_message()));
    move |n| {
        let messages = std::sync::Arc::clone(&messages);
        Box::pin(async move {
            let mut messages = messages.lock().await;
            let heard = messages.by_ref().take(n).map(|message| without_time(&message.get_payload::<String>().unwrap())).collect();
            tokio::time::timeout(Duration::from_secs(5), heard).await.expect("as much is announced")
        })
    }
}

/// `<id> <event> <attempt> <ms>[ <detail>]`, with `since` for the detail of a requeue, and without the time.
fn without_time(line: &str) -> String {
    let mut parts = line.splitn(5, ' ').collect::<Vec<_>>();
    let is_time = |text: &str| text.parse::<i64>().unwrap() > 1_600_000_000_000;
    assert!(is_time(parts.remove(3)), "{line}");
    if parts[1] == "requeued" && parts.len() == 4 {
        assert!(is_time(parts[3]), "{line}");
        parts[3] = "since";
    }
    parts.join(" ")
}

async fn follow(fixture: &Fixture, id: JobId) {
    let expiry = i64::MAX / 1_000_000;
    let mut cmd = redis::cmd("ZADD");
    cmd.arg(fixture.keys.followed()).arg(expiry).arg(id.to_string());
    cmd.exec_async(&mut fixture.connection.clone()).await.unwrap();
}

#[tokio::test]
async fn the_life_of_a_followed_job_is_announced_and_no_others() {
    let fixture = Fixture::new().await;
    let mut heard = hear(&fixture).await;
    let (other, job) = (fixture.job().await, fixture.job().await);
    follow(&fixture, job.id).await;
    let holder = worker();
    let (others, standing) = fixture.start_one(&holder).await;
    assert_eq!(others.job_id, other.id);
    fixture.finish(&holder, end(others, standing, "succeeded")).await;
    let (token, standing) = fixture.start_one(&holder).await;
    let progress = Progress::kept(40.0, Some("half of it")).unwrap();
    progress::write(&mut fixture.connection.clone(), &fixture.keys, &[(token, progress)]).await.unwrap();
    let requeue = |token, standing| Finish { token, action: Action::Requeue { run_at: fixture.ctx.clock.now() }, standing };
    fixture.finish(&holder, requeue(token, standing)).await;
    let (token, standing) = fixture.lease_one(&holder).await;
    fixture.finish(&holder, requeue(token, standing)).await;
    let (token, standing) = fixture.lease_one(&holder).await;
    fixture.finish(&holder, end(token, standing, "dead")).await;
    let told = ["started 1", "progress 1 40:half of it", "requeued 1 since", "requeued 2", "dead 3"];
    assert_eq!(heard(5).await, told.map(|line| format!("{} {line}", job.id)));
}

/// The attempt tells its progress itself, while the task that leases has yet to say that it has begun.
#[tokio::test]
async fn progress_that_comes_before_its_start_announces_both_in_order() {
    let fixture = Fixture::new().await;
    let mut heard = hear(&fixture).await;
    let job = fixture.job().await;
    follow(&fixture, job.id).await;
    let holder = worker();
    let (token, standing) = fixture.lease_one(&holder).await;
    let progress = Progress::kept(1.0, None).unwrap();
    progress::write(&mut fixture.connection.clone(), &fixture.keys, &[(token, progress)]).await.unwrap();
    fixture.step(&holder, Step { started: vec![token], ..Step::default() }).await;
    fixture.finish(&holder, end(token, standing, "succeeded")).await;
    assert_eq!(heard(3).await, ["started 1", "progress 1 1:", "succeeded 1"].map(|line| format!("{} {line}", job.id)));
}

#[tokio::test]
async fn what_is_told_twice_or_refused_is_announced_once_or_not() {
    let fixture = Fixture::new().await;
    let mut heard = hear(&fixture).await;
    let job = fixture.job().await;
    follow(&fixture, job.id).await;
    let holder = worker();
    let (token, standing) = fixture.start_one(&holder).await;
    fixture.step(&holder, Step { started: vec![token], ..Step::default() }).await;
    let forged = Token { nonce: worker().nonce, ..token };
    fixture.finish(&holder, end(forged, standing, "dead")).await;
    for _ in 0..2 {
        fixture.finish(&holder, end(token, standing, "succeeded")).await;
    }
    let next = fixture.job().await;
    follow(&fixture, next.id).await;
    fixture.start_one(&holder).await;
    let (id, next) = (job.id, next.id);
    assert_eq!(heard(3).await, [format!("{id} started 1"), format!("{id} succeeded 1"), format!("{next} started 1")]);
}
