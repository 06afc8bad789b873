//! Accepting, and what is told while somebody watches.

use super::{Fixture, point, until};
use crate::{
    Code,
    channels::{Filter, Reader, history},
    ids::UserId,
    points::{depth, live},
};

#[tokio::test]
async fn a_full_stream_takes_no_more_until_there_is_room() {
    let fixture = Fixture::with(&[("INGEST_MAX_DEPTH", "100")]).await;
    let track = fixture.track().await;
    depth::check(&fixture.ctx, fixture.user.user_id).await.unwrap();
    fixture.send(&(0..100).map(|n| point(track.id, n)).collect::<Vec<_>>()).await;
    let refused = depth::check(&fixture.ctx, fixture.user.user_id).await.unwrap_err();
    assert_eq!(refused.code, Code::IngestFull);
    assert!(refused.retry_after.is_some());
    // Another process sees it too.
    let other = fixture.stores.context(&[("INGEST_MAX_DEPTH", "100")]);
    assert!(depth::check(&other, fixture.user.user_id).await.is_err());
    fixture.drain().await;
    until("there is room", async || depth::check(&other, fixture.user.user_id).await.is_ok()).await;
}

#[tokio::test]
async fn who_has_sent_most_of_what_waits_leaves_room_for_others() {
    let fixture = Fixture::with(&[("INGEST_MAX_DEPTH", "100")]).await;
    let track = fixture.track().await;
    fixture.send(&(0..75).map(|n| point(track.id, n)).collect::<Vec<_>>()).await;
    assert_eq!(depth::check(&fixture.ctx, fixture.user.user_id).await.unwrap_err().code, Code::IngestFull);
    depth::check(&fixture.ctx, UserId::new()).await.unwrap();
    fixture.drain().await;
    until("they may again", async || depth::check(&fixture.ctx, fixture.user.user_id).await.is_ok()).await;
}

#[tokio::test]
async fn points_of_tracks_that_somebody_watches_are_told() {
    let fixture = Fixture::new().await;
    let (watched, unwatched) = (fixture.track().await, fixture.track().await);
    let channel = |id| fixture.ctx.namespaces.resolve(&format!("track:{id}")).unwrap();
    live::follow(&fixture.ctx, &channel(watched.id)).await.unwrap();
    fixture.send(&(0..100).flat_map(|n| [point(watched.id, n), point(unwatched.id, n)]).collect::<Vec<_>>()).await;
    fixture.drain().await;
    let told = async |id| {
        let filter = Filter::newest(10);
        history(&fixture.ctx, &Reader::Process, &channel(id), &filter).await.unwrap().publications
    };
    until("it is told", async || !told(watched.id).await.is_empty()).await;
    let publication = String::from_utf8(told(watched.id).await[0].body.to_vec()).unwrap();
    assert!(publication.contains("\"count\":100") && publication.contains("2026-11-21T10:01:39Z"), "{publication}");
    assert!(told(unwatched.id).await.is_empty());
}
