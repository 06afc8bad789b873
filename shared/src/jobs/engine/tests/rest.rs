//! A queue at rest, which the leader looks at more rarely: what makes it one, and that whatever ends its rest rings.

use super::*;
use futures_util::StreamExt;
use time::Duration as Span;

#[tokio::test]
async fn a_queue_rests_while_nothing_is_leased_or_delayed() {
    let fixture = Fixture::new().await;
    let worker = worker();
    assert!(fixture.sweep().await.is_at_rest);
    let delayed = fixture.row_at(fixture.ctx.clock.now() + Span::HOUR, 4).await;
    fixture.enqueue(&delayed).await;
    assert!(!fixture.sweep().await.is_at_rest, "one is delayed");
    super::super::cancel(&fixture.ctx, &fixture.queue, delayed.id).await.unwrap();
    fixture.job().await;
    assert!(fixture.sweep().await.is_at_rest, "a ready job is the workers' business");
    let (token, standing) = fixture.start_one(&worker).await;
    assert!(!fixture.sweep().await.is_at_rest, "one is leased");
    fixture.finish(&worker, end(token, standing, "succeeded")).await;
    assert!(fixture.sweep().await.is_at_rest);
}

#[tokio::test]
async fn the_first_delayed_job_rings_and_the_next_does_not() {
    let fixture = Fixture::new().await;
    let mut pubsub = fixture.ctx.redis.pubsub().await.unwrap();
    pubsub.subscribe(fixture.ctx.keys.doorbell()).await.unwrap();
    let mut messages = pubsub.on_message();
    for _ in 0..2 {
        let delayed = fixture.row_at(fixture.ctx.clock.now() + Span::HOUR, 4).await;
        fixture.enqueue(&delayed).await;
    }
    // The end of what is to be heard.
    redis::cmd("PUBLISH").arg(fixture.ctx.keys.doorbell()).arg("end").exec_async(&mut fixture.connection.clone()).await.unwrap();
    let mut rings = Vec::new();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(5), messages.next()).await.unwrap().unwrap();
        match message.get_payload::<String>().unwrap() {
            end if end == "end" => break,
            ring => rings.push(ring),
        }
    }
    assert_eq!(rings, [fixture.queue.as_str()]);
}
