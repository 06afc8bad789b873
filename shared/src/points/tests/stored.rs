//! From the streams to the tables.

use super::{Fixture, START_US, account, origin, point, until};
use crate::{
    Role,
    ids::TrackId,
    points::{
        Point, depth, latest,
        process::now,
        read,
        stats::{self, StatsQuery},
        upkeep,
    },
    testing::{RedisServer, TestStores, all_hours},
    tracks::manage,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// A load of five tracks, of which every hundredth point is of one that is not there.
fn load(tracks: &[TrackId], n: i64) -> Vec<Point<'static>> {
    let missing = TrackId(Uuid::from_u128(1));
    let track_of = |n: i64| if n % 100 == 99 { missing } else { tracks[usize::try_from(n).unwrap() % tracks.len()] };
    (0..n).map(|n| point(track_of(n), n)).collect()
}

#[tokio::test]
async fn a_load_is_stored_or_dead_and_the_same_again_changes_nothing() {
    let fixture = Fixture::new().await;
    let mut tracks = Vec::new();
    for _ in 0..5 {
        tracks.push(fixture.track().await.id);
    }
    let load = load(&tracks, 10_000);
    for points in load.chunks(1_000) {
        fixture.send(points).await;
    }
    assert_eq!(depth::look(&fixture.ctx).await.unwrap(), 10_000);
    fixture.drain().await;
    assert_eq!((fixture.count("points").await, fixture.count("points_dead").await), (9_900, 100));
    fixture.check_hours().await;
    let hours = all_hours(&fixture.ctx).await;
    for points in load.chunks(700) {
        fixture.send(points).await;
    }
    fixture.drain().await;
    assert_eq!((fixture.count("points").await, fixture.count("points_dead").await), (9_900, 200));
    assert_eq!(all_hours(&fixture.ctx).await, hours, "a resend changes no bit of the hours");
}

#[tokio::test]
async fn points_that_come_late_or_change_are_recomputed() {
    let fixture = Fixture::new().await;
    let track = fixture.track().await;
    let send = async |points: &[Point<'_>]| {
        fixture.send(points).await;
        fixture.drain().await;
        fixture.check_hours().await;
    };
    send(&[point(track.id, 10), point(track.id, 30), point(track.id, 3_700)]).await;
    send(&[point(track.id, 20), point(track.id, 40)]).await;
    let changed = Point { lat: 60.0, speed_mps: None, ..point(track.id, 30) };
    send(&[changed, point(track.id, 10), point(track.id, 50)]).await;
    send(&[point(track.id, 3_600), point(track.id, 3_800)]).await;
    let stats = fixture.stats(&track).await;
    assert_eq!((&stats[0]["count"], &stats[0]["bbox"][3], &stats[1]["count"]), (&json!(5), &json!(60.0), &json!(3)));
    assert_eq!(stats[1]["start"], "2026-11-21T11:00:00Z");
    // Within one batch the last of an instant counts.
    let (first, second) = (Point { lat: 1.0, ..point(track.id, 60) }, Point { lat: 2.0, ..point(track.id, 60) });
    send(&[first, second]).await;
    let query = serde_json::from_value(json!({"limit": 2})).unwrap();
    let page = read::list(&fixture.ctx, &fixture.user, track.id, &query).await.unwrap();
    assert_eq!(page.items[0].recorded_at.unix_timestamp(), START_US / 1_000_000 + 3_800);
    let at_60 = serde_json::from_value(json!({"from": "2026-11-21T10:01:00Z", "to": "2026-11-21T10:01:01Z"})).unwrap();
    assert_eq!(read::list(&fixture.ctx, &fixture.user, track.id, &at_60).await.unwrap().items[0].lat, 2.0);
}

#[tokio::test]
async fn the_first_and_the_last_instant_there_is_are_in_every_list() {
    let fixture = Fixture::new().await;
    let track = fixture.track().await;
    let (first_us, last_us) = (0, 253_402_300_799_999_999);
    let at = |recorded_at_us| Point { recorded_at_us, ..point(track.id, 0) };
    fixture.send(&[at(first_us), at(last_us)]).await;
    fixture.drain().await;
    let listed = async |query: Value| {
        let query = serde_json::from_value(query).unwrap();
        let page = read::list(&fixture.ctx, &fixture.user, track.id, &query).await.unwrap();
        let cursor = page.next_cursor.clone();
        (page.items.into_iter().map(|point| (point.recorded_at.unix_timestamp_nanos() / 1_000) as i64).collect::<Vec<_>>(), cursor)
    };
    assert_eq!(listed(json!({})).await.0, [last_us, first_us]);
    assert_eq!(listed(json!({"order": "asc"})).await.0, [first_us, last_us]);
    for (order, pages) in [("desc", [last_us, first_us]), ("asc", [first_us, last_us])] {
        let (first, cursor) = listed(json!({"order": order, "limit": 1})).await;
        let second = listed(json!({"order": order, "limit": 1, "cursor": cursor})).await.0;
        assert_eq!([first, second].concat(), pages);
    }
    let until_last = json!({"to": "9999-12-31T23:59:59.999999Z"});
    assert_eq!(listed(until_last).await.0, [first_us], "what is said is still where it ends");
    assert_eq!(fixture.stats(&track).await.as_array().unwrap().len(), 2);
    assert!(latest::latest(&fixture.ctx, &fixture.user, track.id).await.unwrap().get().contains("9999-12-31"));
}

#[tokio::test]
async fn random_order_in_small_batches_by_two_processes_comes_to_the_same() {
    let fixture = Fixture::with(&[("INGEST_BATCH_MAX", "40"), ("INGEST_BATCH_MS", "0")]).await;
    let (first, second) = (fixture.track().await, fixture.track().await);
    let mut points: Vec<_> = (0..1_500).flat_map(|n| [point(first.id, n * 7), point(second.id, n * 5)]).collect();
    // A shuffle that is the same every time.
    points.sort_by_key(|point| (point.recorded_at_us ^ point.track_id.0.as_u128() as i64).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64));
    for points in points.chunks(33) {
        fixture.send(points).await;
    }
    fixture.send(&points[..500]).await;
    fixture.while_storing(|| fixture.drain()).await;
    assert_eq!(fixture.count("points").await, 3_000);
    fixture.check_hours().await;
}

#[tokio::test]
async fn what_a_process_took_and_did_not_store_is_stored_by_another() {
    let fixture = Fixture::with(&[("INGEST_CLAIM_MS", "100"), ("INGEST_SHARDS", "1")]).await;
    let track = fixture.track().await;
    fixture.send(&[point(track.id, 1)]).await;
    let mut connection = fixture.ctx.redis.connection();
    let stream = fixture.ctx.keys.points_stream(0);
    redis::cmd("XGROUP").arg("CREATE").arg(&stream).arg("store").arg(0).exec_async(&mut connection).await.unwrap();
    let mut take = redis::cmd("XREADGROUP");
    take.arg("GROUP").arg("store").arg("killed").arg("STREAMS").arg(&stream).arg(">");
    take.exec_async(&mut connection).await.unwrap();
    fixture.drain().await;
    assert_eq!(fixture.count("points").await, 1);
}

#[tokio::test]
async fn fewer_shards_leave_nothing_behind() {
    let fixture = Fixture::with(&[("INGEST_SHARDS", "16")]).await;
    let track = fixture.track().await;
    let others = [fixture.track().await, fixture.track().await, fixture.track().await];
    fixture.send(&[point(track.id, 1), point(others[0].id, 1), point(others[1].id, 1), point(others[2].id, 1)]).await;
    let later = Fixture { ctx: fixture.stores.context(&[("INGEST_SHARDS", "1")]), ..fixture };
    later.drain().await;
    assert_eq!(later.count("points").await, 4);
}

#[tokio::test]
async fn a_killed_redis_loses_no_accepted_point() {
    let mut redis = RedisServer::start().await;
    let mut stores = TestStores::create().await;
    stores.use_redis(&redis);
    let fixture = Fixture::on(stores, &[("INGEST_BATCH_MAX", "300")]).await;
    let track = fixture.track().await;
    for n in 0..20 {
        fixture.send(&(0..200).map(|m| point(track.id, n * 200 + m)).collect::<Vec<_>>()).await;
    }
    let storing = fixture.while_storing(|| fixture.until_drained());
    let killing = async {
        until("some are stored", async || fixture.count("points").await > 0).await;
        redis.kill();
        redis.restart().await;
    };
    tokio::join!(storing, killing);
    assert_eq!(fixture.count("points").await, 4_000);
    fixture.check_hours().await;
}

#[tokio::test]
async fn connections_to_postgres_that_end_in_between_cost_nothing() {
    let mut fixture = Fixture::with(&[("INGEST_BATCH_MAX", "200"), ("INGEST_SHARDS", "2")]).await;
    let (one, two) = (fixture.track().await, fixture.track().await);
    for n in 0..30 {
        fixture.send(&(0..100).flat_map(|m| [point(one.id, n * 100 + m), point(two.id, n * 100 + m)]).collect::<Vec<_>>()).await;
    }
    let ending = async {
        for _ in 0..10 {
            let ended =
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
            drop(sqlx::query(ended).execute(&fixture.ctx.pg).await);
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
    };
    tokio::join!(fixture.while_storing(|| fixture.until_drained()), ending);
    // The pool may hold some that have just ended.
    let options = fixture.ctx.pg.connect_options();
    fixture.ctx.pg = sqlx::PgPool::connect_with((*options).clone()).await.unwrap();
    assert_eq!(fixture.count("points").await, 6_000);
    fixture.check_hours().await;
}

#[tokio::test]
async fn who_waits_for_another_to_make_a_month_finds_it_made() {
    let fixture = Fixture::new().await;
    let add = "SELECT points_add_month('2010-01-01')";
    let mut first = fixture.ctx.pg.begin().await.unwrap();
    assert!(sqlx::query_scalar::<_, bool>(add).fetch_one(&mut *first).await.unwrap());
    let pg = fixture.ctx.pg.clone();
    let second = tokio::spawn(async move { sqlx::query_scalar::<_, bool>(add).fetch_one(&pg).await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    until("the second waits", async || sqlx::query_scalar::<_, i64>(waiting).fetch_one(&fixture.ctx.pg).await.unwrap() == 1).await;
    first.commit().await.unwrap();
    assert!(!second.await.unwrap().unwrap());
}

#[tokio::test]
async fn months_have_partitions_and_old_ones_go() {
    let fixture = Fixture::with(&[("POINT_RETENTION_MONTHS", "3")]).await;
    let track = fixture.track().await;
    let now_s = fixture.ctx.clock.now().unix_timestamp();
    let at = |days_ago: i64| Point { recorded_at_us: (now_s - days_ago * 86_400) * 1_000_000, ..point(track.id, 0) };
    let points = [at(0), at(40), at(200), at(365 * 10)];
    fixture.send(&points).await;
    fixture.drain().await;
    assert_eq!((fixture.count("points").await, fixture.count("points_default").await), (4, 1));
    upkeep::keep_house(&fixture.ctx).await.unwrap();
    assert_eq!((fixture.count("points").await, fixture.count("point_hours").await), (2, 2));
}

#[tokio::test]
async fn the_latest_point_is_known_with_and_without_redis() {
    let fixture = Fixture::new().await;
    let track = fixture.track().await;
    fixture.send(&[point(track.id, 5), point(track.id, 9), point(track.id, 7)]).await;
    fixture.drain().await;
    fixture.send(&[point(track.id, 8)]).await;
    fixture.drain().await;
    let latest = async || latest::latest(&fixture.ctx, &fixture.user, track.id).await.unwrap().get().to_owned();
    let remembered = latest().await;
    assert!(remembered.contains("2026-11-21T10:00:09Z"), "{remembered}");
    latest::forget(&fixture.ctx, track.id).await;
    assert_eq!(latest().await, remembered);
    let query = serde_json::from_value(json!({"latest": true, "hour": true})).unwrap();
    let listed = manage::list(&fixture.ctx, &fixture.user, &query).await.unwrap().items.remove(0);
    assert_eq!(serde_json::to_string(&listed.latest).unwrap(), remembered);
    assert_eq!(listed.hour.unwrap().count, 4);
}

/// Longer than it takes.
const WITHIN: std::time::Duration = std::time::Duration::from_mins(5);

#[tokio::test]
async fn a_deleted_track_takes_its_points_along() {
    let fixture = Fixture::new().await;
    let (gone, stays) = (fixture.track().await, fixture.track().await);
    fixture.send(&[point(gone.id, 1), point(stays.id, 1)]).await;
    fixture.drain().await;
    manage::delete(&fixture.ctx, &fixture.user, gone.id, &origin()).await.unwrap();
    // A writer that has not heard of it.
    fixture.send(&[point(gone.id, 2)]).await;
    fixture.drain().await;
    upkeep::clear_removed(&fixture.ctx, WITHIN).await.unwrap();
    assert_eq!((fixture.count("points").await, fixture.count("point_hours").await, fixture.count("tracks_removed").await), (1, 1, 1));
    fixture.ctx.clock.advance(time::Duration::minutes(10));
    upkeep::clear_removed(&fixture.ctx, WITHIN).await.unwrap();
    assert_eq!(fixture.count("tracks_removed").await, 0);
}

#[tokio::test]
async fn however_many_tracks_are_deleted_they_are_cleared_in_one_go() {
    let fixture = Fixture::new().await;
    let many = "INSERT INTO tracks_removed SELECT gen_random_uuid(), now() - interval '1 year' FROM generate_series(1, 2500)";
    sqlx::query(many).execute(&fixture.ctx.pg).await.unwrap();
    upkeep::clear_removed(&fixture.ctx, WITHIN).await.unwrap();
    assert_eq!(fixture.count("tracks_removed").await, 0);
}

#[tokio::test]
async fn points_stored_at_once_are_as_any_other() {
    let fixture = Fixture::new().await;
    let (ours, theirs) = (fixture.track().await, fixture.track_of(&account(&fixture.ctx, Role::User).await).await);
    let points =
        [point(ours.id, 1), point(theirs.id, 1), point(TrackId::new(), 1), point(ours.id, 0), Point { lat: 1.0, ..point(ours.id, 1) }];
    assert_eq!(now::unknown(&fixture.ctx, &fixture.user, &points).await.unwrap(), [1, 2]);
    let known = [points[0].clone(), points[3].clone(), points[4].clone()];
    now::store(&fixture.ctx, &known).await.unwrap();
    assert_eq!(fixture.stats(&ours).await[0]["bbox"], json!([13.0, 1.0, 13.0, 52.0]));
    fixture.check_hours().await;
}

#[tokio::test]
async fn who_reads_stats_waits_for_their_own_turn_and_others_do_not() {
    let fixture = Fixture::new().await;
    let other = account(&fixture.ctx, Role::User).await;
    let query = StatsQuery::default();
    let turn = fixture.ctx.points.stats_turn(fixture.user.user_id, &()).await.unwrap();
    let own = stats::of_all(&fixture.ctx, &fixture.user, &query, &());
    let of_others = async {
        for _ in 0..20 {
            stats::of_all(&fixture.ctx, &other, &query, &()).await.unwrap();
        }
    };
    let mut own = std::pin::pin!(own);
    tokio::select! {
        biased;
        _ = &mut own => panic!("one user has no two turns"),
        () = of_others => {}
    }
    drop(turn);
    assert!(own.await.unwrap().items.is_empty());
}
