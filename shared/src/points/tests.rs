//! Points on real servers: what becomes of them, whatever is done twice or fails in between.

mod accept;
mod dead;
mod hours;
mod limits;
mod stored;

use super::{Point, append::Appending, dead::ListDeadPoints, process, stats::StatsQuery};
use crate::{
    Caller, Context, Role,
    accounts::Origin,
    caller::Credential,
    ids::{SessionId, TrackId, UserId},
    points::{depth, stats},
    testing::{TestStores, differing_hours},
    tracks::{NewTrack, Track, manage},
};
use serde_json::{Value, json};
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// 2026-11-21T10:00:00Z.
const START_US: i64 = 1_795_255_200_000_000;
const SECOND_US: i64 = 1_000_000;

/// A context on stores of its own, which vanish with it, and a process that stores points while it is asked to.
struct Fixture {
    ctx: Context,
    user: Caller,
    stores: TestStores,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(overrides: &[(&str, &str)]) -> Self {
        Self::on(TestStores::create().await, overrides).await
    }

    async fn on(stores: TestStores, overrides: &[(&str, &str)]) -> Self {
        let ctx = stores.context(overrides);
        let user = account(&ctx, Role::User).await;
        Self { ctx, user, stores }
    }

    async fn track(&self) -> Track {
        self.track_of(&self.user).await
    }

    async fn track_of(&self, owner: &Caller) -> Track {
        let new: NewTrack = serde_json::from_str(r#"{"name":"a track"}"#).unwrap();
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let track = manage::create(&self.ctx, &mut tx, owner, new).await.unwrap();
        tx.commit().await.unwrap();
        track
    }

    async fn send(&self, points: &[Point<'_>]) {
        self.send_as(&self.user, points).await;
    }

    async fn send_as(&self, caller: &Caller, points: &[Point<'_>]) {
        let mut appending = Appending::new(&self.ctx, caller);
        points.iter().for_each(|point| appending.add(point));
        appending.send(&self.ctx).await.unwrap();
    }

    /// Stores all that was sent, by a process of its own.
    async fn drain(&self) {
        self.while_storing(|| self.until_drained()).await;
    }

    async fn until_drained(&self) {
        until("all points are stored", async || depth::look(&self.ctx).await.is_ok_and(|depth| depth == 0)).await;
    }

    /// Runs a process that stores points for as long as `during` takes.
    async fn while_storing<F: Future<Output = ()>>(&self, during: impl FnOnce() -> F) {
        let stop = CancellationToken::new();
        let name = Uuid::new_v4().to_string();
        tokio::join!(process::run(&self.ctx, &name, &stop), async {
            during().await;
            stop.cancel();
        });
    }

    async fn count(&self, table: &'static str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&self.ctx.pg).await.unwrap()
    }

    async fn stats(&self, track: &Track) -> Value {
        let stats = stats::of_track(&self.ctx, &self.user, track.id, &StatsQuery::default(), &()).await.unwrap();
        serde_json::to_value(stats.items).unwrap()
    }

    /// Fails unless what is kept of hours is what a plain aggregate makes of the points.
    async fn check_hours(&self) {
        assert_eq!(differing_hours(&self.ctx).await, None, "hours are not what their points make");
    }

    async fn dead_codes(&self, caller: &Caller) -> Vec<String> {
        let page = super::dead::list(&self.ctx, caller, &ListDeadPoints { limit: Some(1_000), ..ListDeadPoints::default() }).await.unwrap();
        page.items.into_iter().map(|dead| dead.code).collect()
    }
}

async fn account(ctx: &Context, role: Role) -> Caller {
    let id = UserId::new();
    sqlx::query("INSERT INTO users (id, email, password_hash, role, created_at, updated_at) VALUES ($1, $2, '', $3, now(), now())")
        .bind(id.0)
        .bind(format!("{id}@example.org"))
        .bind(role.as_str())
        .execute(&ctx.pg)
        .await
        .unwrap();
    Caller::new(id, role, role.scopes(), Credential::Session(SessionId::new()))
}

/// The `n`th second of a way north.
fn point(track_id: TrackId, n: i64) -> Point<'static> {
    Point {
        track_id,
        recorded_at_us: START_US + n * SECOND_US,
        lat: 52.0 + n as f64 / 100_000.0,
        lon: 13.0,
        altitude_m: None,
        speed_mps: Some((n % 7) as f64 + 0.1),
        heading_deg: None,
        accuracy_m: None,
        attributes: (n % 10 == 0).then(|| json!({ "n": n }).to_string().into()),
    }
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "it never came to pass that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn origin() -> Origin {
    Origin { request_id: None, address: None, user_agent: None }
}
