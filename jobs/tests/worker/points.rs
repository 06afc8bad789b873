//! Points while the process that stores them is killed, or waits for PostgreSQL.

use crate::world::World;
use nix::sys::signal::Signal;
use shared::{
    ids::TrackId,
    points::{Point, append::Appending, depth},
    testing::differing_hours,
    tracks::{NewTrack, manage},
};
use std::time::{Duration, Instant};

const N_POINTS: i64 = 20_000;

impl World {
    pub(crate) async fn a_track(&self) -> TrackId {
        sqlx::query(
            "INSERT INTO users (id, email, password_hash, role, created_at, updated_at) VALUES ($1, 'a@b', '', 'operator', now(), now())",
        )
        .bind(self.caller.user_id.0)
        .execute(&self.ctx.pg)
        .await
        .unwrap();
        let new: NewTrack = serde_json::from_str(r#"{"name":"a track"}"#).unwrap();
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let track = manage::create(&self.ctx, &mut tx, &self.caller, new).await.unwrap();
        tx.commit().await.unwrap();
        track.id
    }

    /// Of each hundred one is of a track that is not there.
    async fn send_points(&self, track_id: TrackId) {
        for n in 0..N_POINTS / 100 {
            let mut appending = Appending::new(&self.ctx, &self.caller);
            for m in 0..100 {
                let track_id = if m == 50 { TrackId::new() } else { track_id };
                let recorded_at_us = (1_795_255_200 + n * 100 + m) * 1_000_000;
                let (lat, lon, speed_mps) = (m as f64 / 100.0, n as f64 / 1_000.0, Some(1.0));
                let none = None;
                let (altitude_m, heading_deg, accuracy_m) = (none, none, none);
                appending.add(&Point {
                    track_id,
                    recorded_at_us,
                    lat,
                    lon,
                    altitude_m,
                    speed_mps,
                    heading_deg,
                    accuracy_m,
                    attributes: None,
                });
            }
            appending.send(&self.ctx).await.unwrap();
        }
    }

    pub(crate) async fn count_of(&self, table: &'static str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&self.ctx.pg).await.unwrap()
    }

    pub(crate) async fn until_stored(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while depth::look(&self.ctx).await.unwrap() > 0 {
            assert!(Instant::now() < deadline, "{} are stored", self.count_of("points").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn check_ledger(&self) {
        let (stored, dead) = (self.count_of("points").await, self.count_of("points_dead").await);
        assert_eq!((stored, dead), (N_POINTS * 99 / 100, N_POINTS / 100));
        assert_eq!(differing_hours(&self.ctx).await, None, "each point counts once");
    }
}

#[tokio::test]
async fn a_killed_worker_loses_and_doubles_no_point() {
    let settings = [("INGEST_BATCH_MAX", "500"), ("INGEST_BATCH_MS", "0"), ("INGEST_CLAIM_MS", "1000")];
    let world = World::new().await;
    let track = world.a_track().await;
    world.send_points(track).await;
    for _ in 0..3 {
        let worker = world.worker(&settings);
        let before = world.count_of("points").await;
        let deadline = Instant::now() + Duration::from_secs(30);
        while world.count_of("points").await == before && depth::look(&world.ctx).await.unwrap() > 0 {
            assert!(Instant::now() < deadline, "nothing is stored");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        worker.signal(Signal::SIGKILL);
    }
    let _worker = world.worker(&settings);
    world.until_stored().await;
    world.check_ledger().await;
}

#[tokio::test]
async fn a_worker_that_stops_leaves_its_batch_in_order() {
    let world = World::new().await;
    let track = world.a_track().await;
    world.send_points(track).await;
    let first = world.worker(&[("INGEST_BATCH_MAX", "500")]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.count_of("points").await == 0 {
        assert!(Instant::now() < deadline, "nothing is stored");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.signal(Signal::SIGTERM);
    assert!(first.ended().await);
    // Nothing has to be claimed: this one would wait half a minute for it.
    let _second = world.worker(&[]);
    world.until_stored().await;
    world.check_ledger().await;
}
