//! Dead letters.

use super::{Fixture, account, origin, point};
use crate::{
    Code, Role,
    ids::TrackId,
    points::{
        dead::{self, ListDeadPoints, RequeuedPoints, SelectDeadPoints},
        trim::trim_dead,
    },
};
use futures_util::future::join_all;
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
async fn letters_that_many_send_again_at_once_are_sent_once() {
    let fixture = Fixture::new().await;
    let operator = account(&fixture.ctx, Role::Operator).await;
    let missing = TrackId::new();
    fixture.send(&(0..1_000).map(|n| point(missing, n)).collect::<Vec<_>>()).await;
    fixture.drain().await;
    let (which, origin) = (all(), origin());
    let operators = join_all((0..4).map(|_| account(&fixture.ctx, Role::Operator))).await;
    for _ in 0..3 {
        let requeued = join_all(operators.iter().map(|operator| dead::requeue(&fixture.ctx, operator, &which, &origin))).await;
        let requeued: Vec<RequeuedPoints> = requeued.into_iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(requeued.iter().map(|requeued| requeued.requeued).sum::<u64>(), 1_000);
        assert!(requeued.iter().all(|requeued| !requeued.more), "{requeued:?}");
        assert_eq!(fixture.count("points_dead").await, 0);
        fixture.drain().await;
        assert_eq!(fixture.count("points_dead").await, 1_000, "they have died again, each once");
    }
    // Whoever deletes meets those that are being sent again as little.
    let requeue = dead::requeue(&fixture.ctx, &operators[0], &which, &origin);
    let (requeued, removed) = tokio::join!(requeue, dead::delete(&fixture.ctx, &operator, &which, &origin));
    let (requeued, removed) = (requeued.unwrap().requeued, removed.unwrap().removed);
    assert_eq!(requeued + removed, 1_000);
    fixture.drain().await;
    assert_eq!(fixture.count("points_dead").await, requeued as i64);
}

#[tokio::test]
async fn one_request_of_a_user_deals_with_letters_at_a_time() {
    let fixture = Fixture::new().await;
    let other = account(&fixture.ctx, Role::User).await;
    fixture.send(&[point(TrackId::new(), 1)]).await;
    fixture.drain().await;
    let turn = fixture.ctx.points.dead_letters_turn(fixture.user.user_id).await.unwrap();
    let refusal = dead::requeue(&fixture.ctx, &fixture.user, &all(), &origin()).await.unwrap_err();
    assert_eq!(refusal.code, Code::Overloaded);
    assert_eq!(dead::delete(&fixture.ctx, &other, &all(), &origin()).await.unwrap().removed, 0);
    drop(turn);
    assert_eq!(dead::requeue(&fixture.ctx, &fixture.user, &all(), &origin()).await.unwrap().requeued, 1);
}

#[tokio::test]
async fn letters_that_somebody_deals_with_are_passed_over() {
    let fixture = Fixture::new().await;
    fixture.send(&(0..10).map(|n| point(TrackId::new(), n)).collect::<Vec<_>>()).await;
    fixture.drain().await;
    let mut other = fixture.ctx.pg.begin().await.unwrap();
    sqlx::query("SELECT FROM points_dead ORDER BY id LIMIT 4 FOR UPDATE").execute(&mut *other).await.unwrap();
    let requeued = dead::requeue(&fixture.ctx, &fixture.user, &all(), &origin()).await.unwrap();
    assert_eq!(requeued, RequeuedPoints { requeued: 6, more: false });
    other.rollback().await.unwrap();
    assert_eq!(dead::delete(&fixture.ctx, &fixture.user, &all(), &origin()).await.unwrap().removed, 4);
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

#[tokio::test]
async fn of_each_user_the_newest_dead_letters_are_kept() {
    let fixture = Fixture::with(&[("DEAD_POINTS_PER_USER_MAX", "3")]).await;
    let (other, third) = (account(&fixture.ctx, Role::User).await, account(&fixture.ctx, Role::User).await);
    for n in 0..5 {
        fixture.send(&[point(TrackId::new(), n)]).await;
    }
    fixture.send_as(&other, &[point(TrackId::new(), 1), point(TrackId::new(), 2), point(TrackId::new(), 3)]).await;
    fixture.send_as(&third, &(0..4).map(|n| point(TrackId::new(), n)).collect::<Vec<_>>()).await;
    fixture.drain().await;
    let newest: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM points_dead WHERE submitted_by = $1 ORDER BY id DESC LIMIT 3")
        .bind(fixture.user.user_id.0)
        .fetch_all(&fixture.ctx.pg)
        .await
        .unwrap();
    trim_dead(&fixture.ctx).await.unwrap();
    let list = ListDeadPoints { limit: Some(100), ..ListDeadPoints::default() };
    let kept = dead::list(&fixture.ctx, &fixture.user, &list).await.unwrap();
    assert_eq!(kept.items.iter().map(|letter| letter.id).collect::<Vec<_>>(), newest);
    assert_eq!((fixture.dead_codes(&other).await.len(), fixture.dead_codes(&third).await.len()), (3, 3));
}

#[tokio::test]
async fn where_there_is_no_bound_all_dead_letters_are_kept() {
    let fixture = Fixture::with(&[("DEAD_POINTS_PER_USER_MAX", "0")]).await;
    fixture.send(&[point(TrackId::new(), 1), point(TrackId::new(), 2)]).await;
    fixture.drain().await;
    trim_dead(&fixture.ctx).await.unwrap();
    assert_eq!(fixture.count("points_dead").await, 2);
}
