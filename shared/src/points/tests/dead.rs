//! Dead letters.

use super::{Fixture, account, origin, point};
use crate::{
    Role,
    ids::TrackId,
    points::dead::{self, RequeuedPoints, SelectDeadPoints},
};
use uuid::Uuid;

fn all() -> SelectDeadPoints {
    SelectDeadPoints { all: Some(true), ..SelectDeadPoints::default() }
}

#[tokio::test]
async fn foreign_and_missing_tracks_are_dead_for_who_sent_them_and_operators_write_to_all() {
    let fixture = Fixture::new().await;
    let (other, operator) = (account(&fixture.ctx, Role::User).await, account(&fixture.ctx, Role::Operator).await);
    let (ours, theirs) = (fixture.track().await, fixture.track_of(&other).await);
    fixture.send(&[point(ours.id, 1), point(theirs.id, 1), point(TrackId::new(), 1)]).await;
    fixture.send_as(&operator, &[point(ours.id, 2), point(theirs.id, 2)]).await;
    fixture.drain().await;
    assert_eq!(fixture.count("points").await, 3);
    assert_eq!(fixture.dead_codes(&fixture.user).await, ["unknown_track", "unknown_track"]);
    assert!(fixture.dead_codes(&other).await.is_empty());
    assert_eq!(fixture.dead_codes(&operator).await.len(), 2);
}

#[tokio::test]
async fn dead_letters_are_sent_again_in_the_name_of_who_sent_them() {
    let fixture = Fixture::new().await;
    let operator = account(&fixture.ctx, Role::Operator).await;
    let missing = TrackId::new();
    fixture.send(&[point(missing, 1), point(missing, 2), point(TrackId::new(), 3)]).await;
    fixture.drain().await;
    sqlx::query("INSERT INTO tracks (id, owner_id, name, created_at, updated_at) VALUES ($1, $2, 'late', now(), now())")
        .bind(missing.0)
        .bind(fixture.user.user_id.0)
        .execute(&fixture.ctx.pg)
        .await
        .unwrap();
    let requeued = dead::requeue(&fixture.ctx, &operator, &all(), &origin()).await.unwrap();
    assert_eq!(requeued, RequeuedPoints { requeued: 3, more: false });
    fixture.drain().await;
    assert_eq!((fixture.count("points").await, fixture.count("points_dead").await), (2, 1));
    let other = account(&fixture.ctx, Role::User).await;
    assert_eq!(dead::delete(&fixture.ctx, &other, &all(), &origin()).await.unwrap().removed, 0);
    assert_eq!(dead::delete(&fixture.ctx, &fixture.user, &all(), &origin()).await.unwrap().removed, 1);
    let both = SelectDeadPoints { ids: Some(vec![Uuid::nil()]), ..all() };
    assert!(dead::delete(&fixture.ctx, &operator, &both, &origin()).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_read_or_stored_holds_nothing_up() {
    let fixture = Fixture::with(&[("INGEST_SHARDS", "1")]).await;
    let (track, operator) = (fixture.track().await, account(&fixture.ctx, Role::Operator).await);
    let mut cmd = redis::cmd("XADD");
    cmd.arg(fixture.ctx.keys.points_stream(0)).arg("*").arg("b").arg("none of ours");
    cmd.exec_async(&mut fixture.ctx.redis.connection()).await.unwrap();
    // A rule that this process does not know of.
    sqlx::query("ALTER TABLE points ADD CHECK (lat < 52.0005)").execute(&fixture.ctx.pg).await.unwrap();
    fixture.send(&(0..100).map(|n| point(track.id, n)).collect::<Vec<_>>()).await;
    fixture.drain().await;
    assert_eq!(fixture.count("points").await, 50);
    fixture.check_hours().await;
    let mut codes = fixture.dead_codes(&operator).await;
    codes.sort();
    codes.dedup_by(|one, next| one == next);
    assert_eq!((codes, fixture.count("points_dead").await), (vec!["refused".to_owned(), "unreadable".to_owned()], 51));
}
