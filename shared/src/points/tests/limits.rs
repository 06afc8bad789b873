//! What is too much for one transaction, and hours that are full. The limits are low here; as they are, it takes half a million points.

use super::{Fixture, SECOND_US, account, point};
use crate::{
    Code, Role,
    ids::TrackId,
    points::{
        LocalPoints, Point,
        process::{Limits, now},
    },
};
use std::sync::Arc;

const HOUR_S: i64 = 3_600;

impl Fixture {
    async fn with_limits(limits: Limits) -> Self {
        let mut fixture = Self::new().await;
        let mut points = LocalPoints::new(&fixture.ctx.settings());
        points.limits = limits;
        fixture.ctx.points = Arc::new(points);
        fixture
    }

    /// Refuses statements that compute hours of more than `most` points together, as no other failure does.
    async fn refuse_hours_of_more_than(&self, most: i64) {
        let sql = format!(
            "CREATE FUNCTION refuse_many() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF (SELECT sum(count) FROM written) > {most} THEN
                    RAISE 'too many points';
                END IF;
                RETURN NULL;
            END $$;
            CREATE TRIGGER refuse_many AFTER UPDATE ON point_hours REFERENCING NEW TABLE AS written
                FOR EACH STATEMENT EXECUTE FUNCTION refuse_many();"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&self.ctx.pg).await.unwrap();
    }
}

/// Ten points of each of `n` hours, a minute apart.
fn hours(track_id: TrackId, n: i64) -> Vec<Point<'static>> {
    (0..n).flat_map(|hour| (0..10).map(move |minute| point(track_id, hour * HOUR_S + minute * 60))).collect()
}

fn moved(point: &Point<'_>) -> Point<'static> {
    Point { lat: 60.0, ..point.clone().into_owned() }
}

fn half_a_second_later(point: &Point<'_>) -> Point<'static> {
    Point { recorded_at_us: point.recorded_at_us + SECOND_US / 2, ..point.clone().into_owned() }
}

#[tokio::test]
async fn what_would_read_too_many_points_again_is_stored_in_pieces() {
    let fixture = Fixture::with_limits(Limits { read_again: 25, of_hour: 100 }).await;
    let track = fixture.track().await;
    let points = hours(track.id, 30);
    fixture.send(&points).await;
    fixture.drain().await;
    fixture.refuse_hours_of_more_than(30).await;
    // One of each hour is corrected.
    let corrections = async |at: usize| points.iter().skip(at).step_by(10).map(moved).collect::<Vec<_>>();
    fixture.send(&corrections(4).await).await;
    fixture.drain().await;
    fixture.check_hours().await;
    // Two of each hour come late, with all of the hour between them.
    let late = |at: usize| points.iter().skip(at).step_by(10).map(half_a_second_later);
    fixture.send(&late(0).chain(late(8)).collect::<Vec<_>>()).await;
    fixture.drain().await;
    fixture.check_hours().await;
    // The same for callers that wait for the commit.
    now::store(&fixture.ctx, &corrections(5).await).await.unwrap();
    now::store(&fixture.ctx, &late(1).chain(late(9)).collect::<Vec<_>>()).await.unwrap();
    fixture.check_hours().await;
    let n_moved: i64 = sqlx::query_scalar("SELECT count(*) FROM points WHERE lat = 60").fetch_one(&fixture.ctx.pg).await.unwrap();
    assert_eq!((n_moved, fixture.count("points").await, fixture.count("points_dead").await), (60, 420, 0));
}

#[tokio::test]
async fn nothing_changes_an_hour_that_is_full_and_it_holds_nothing_up() {
    let fixture = Fixture::with_limits(Limits { read_again: 30, of_hour: 30 }).await;
    let (track, operator) = (fixture.track().await, account(&fixture.ctx, Role::Operator).await);
    let full: Vec<Point<'_>> = (0..30).map(|n| point(track.id, n)).collect();
    let next: Vec<Point<'_>> = (0..10).map(|n| point(track.id, HOUR_S + n)).collect();
    fixture.send(&full).await;
    fixture.send(&next).await;
    fixture.drain().await;
    let refused = [moved(&full[3]), half_a_second_later(&full[7]), point(track.id, 30)];
    let stored = [full[5].clone(), moved(&next[2]), half_a_second_later(&next[3]), point(track.id, HOUR_S + 10)];
    fixture.send(&[&refused[..], &stored[..]].concat()).await;
    fixture.drain().await;
    assert_eq!(fixture.dead_codes(&fixture.user).await, ["hour_full"; 3]);
    assert_eq!(fixture.count("points").await, 42);
    fixture.check_hours().await;
    // New points alone, behind all others.
    fixture.send(&[point(track.id, 31), point(track.id, 2 * HOUR_S)]).await;
    fixture.drain().await;
    assert_eq!((fixture.dead_codes(&operator).await.len(), fixture.count("points").await), (4, 43));
    fixture.check_hours().await;
    for points in [&refused[..1], &refused[1..2], &refused[2..], &[full[5].clone(), point(track.id, 2 * HOUR_S + 1), point(track.id, 32)]] {
        let refusal = now::store(&fixture.ctx, points).await.unwrap_err();
        assert_eq!((refusal.code, refusal.fields.len(), &*refusal.fields[0].code), (Code::ValidationFailed, 1, "hour_full"), "{refusal}");
        assert!(
            refusal.fields[0].detail.contains(&track.id.to_string()) && refusal.fields[0].detail.contains("2026-11-21T10:00:"),
            "{refusal}"
        );
    }
    assert_eq!(fixture.count("points").await, 43, "a refusal stores nothing");
    now::store(&fixture.ctx, &full).await.unwrap();
    fixture.check_hours().await;
}

#[tokio::test]
async fn what_takes_too_long_at_once_is_stored_in_pieces_and_buries_nothing() {
    let fixture = Fixture::new().await;
    let track = fixture.track().await;
    fixture.send(&[point(track.id, 0)]).await;
    fixture.drain().await;
    sqlx::raw_sql(
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.03); RETURN NEW; END $$;
        CREATE TRIGGER linger BEFORE INSERT ON points FOR EACH ROW EXECUTE FUNCTION linger();",
    )
    .execute(&fixture.ctx.pg)
    .await
    .unwrap();
    let hurried = Fixture { ctx: fixture.stores.context(&[("DB_STATEMENT_TIMEOUT_MS", "400")]), ..fixture };
    hurried.send(&(1..=60).map(|hour| point(track.id, hour * HOUR_S)).collect::<Vec<_>>()).await;
    hurried.drain().await;
    assert_eq!((hurried.count("points").await, hurried.count("points_dead").await), (61, 0));
    hurried.check_hours().await;
}
