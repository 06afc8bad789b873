//! What is kept of hours, whatever order points come in and however often: what a plain aggregate makes of the table.

use super::{Fixture, SECOND_US, START_US, point};
use crate::{
    ids::TrackId,
    points::{
        Point,
        process::{now, write_in},
    },
    testing::{all_hours, differing_hours},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

const N_TRACKS: usize = 3;
/// Instants of a track, over the ends of two hours: few, so that sends meet what is there.
const N_INSTANTS: i64 = 40;
const BETWEEN_S: i64 = 257;
const N_CASES: u32 = 24;

/// Which track, which instant, and what was there: 0 has no speed.
type Sent = (usize, i64, u8);

fn any_sends() -> impl Strategy<Value = Vec<Vec<Sent>>> {
    let sent = (0..N_TRACKS, 0..N_INSTANTS, 0..4_u8);
    prop::collection::vec(prop::collection::vec(sent, 1..30), 1..10)
}

fn point_of((track, instant, value): Sent, tracks: &[TrackId]) -> Point<'static> {
    let place = f64::from(value) * 0.37;
    Point {
        recorded_at_us: START_US + instant * BETWEEN_S * SECOND_US,
        lat: 52.0 + place,
        lon: 13.0 - place * instant as f64 / 10.0,
        speed_mps: (value > 0).then_some(place),
        attributes: None,
        ..point(tracks[track], 0)
    }
}

#[test]
fn any_order_of_new_known_and_changed_points_makes_the_same_hours() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fixture = runtime.block_on(Fixture::new());
    let config = Config { cases: N_CASES, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&any_sends(), |sends| runtime.block_on(play(&fixture, sends)));
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Plays one case on tracks of its own.
async fn play(fixture: &Fixture, sends: Vec<Vec<Sent>>) -> Result<(), TestCaseError> {
    let mut tracks = Vec::new();
    for _ in 0..N_TRACKS {
        tracks.push(fixture.track().await.id);
    }
    let last = sends.last().cloned().unwrap_or_default();
    for sent in sends {
        store(fixture, &sent, &tracks).await;
        prop_assert_eq!(differing_hours(&fixture.ctx).await, None, "after {:?}", sent);
    }
    let hours = all_hours(&fixture.ctx).await;
    store(fixture, &last, &tracks).await;
    prop_assert_eq!(all_hours(&fixture.ctx).await, hours, "a resend changes no bit");
    Ok(())
}

async fn store(fixture: &Fixture, sent: &[Sent], tracks: &[TrackId]) {
    let points: Vec<Point<'_>> = sent.iter().map(|sent| point_of(*sent, tracks)).collect();
    now::store(&fixture.ctx, &points).await.unwrap();
}

/// PostgreSQL refuses what is less than the least number there is, such as the square of one that is near it.
#[tokio::test]
async fn the_shortest_way_there_is_has_a_length() {
    let fixture = Fixture::new().await;
    let track = fixture.track().await;
    let at = |n, degrees| Point { lat: degrees, lon: degrees, ..point(track.id, n) };
    for points in [[at(1, 0.0), at(3, 1e-12)], [at(2, -1e-12), at(4, 0.0)], [at(3, 0.0), at(1, 1e-12)]] {
        now::store(&fixture.ctx, &points).await.unwrap();
        fixture.check_hours().await;
    }
}

#[tokio::test]
async fn a_point_behind_others_reads_its_neighbours_and_not_its_hour() {
    let fixture = Fixture::new().await;
    let track = fixture.track().await;
    let hour: Vec<Point<'_>> = (0..3_600).filter(|n| n % 2 == 0).map(|n| point(track.id, n)).collect();
    now::store(&fixture.ctx, &hour).await.unwrap();
    sqlx::query("ANALYZE points, point_hours").execute(&fixture.ctx.pg).await.unwrap();
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    write_in(&mut tx, &[&point(track.id, 1_001)], fixture.ctx.points.limits).await.unwrap();
    let n_read: i64 = sqlx::query_scalar(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_user_tables WHERE relname ~ '^points_(default|[0-9]+)$'",
    )
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    assert!((1..20).contains(&n_read), "{n_read} rows were read");
    fixture.check_hours().await;
}
