//! Schedules through the death of their leader.

use crate::world::World;
use serde_json::json;
use shared::{
    Role,
    caller::Credential,
    ids::{SessionId, UserId},
    schedules::{NewSchedule, Schedule, operations},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use time::OffsetDateTime;

impl World {
    async fn every_second(&self) -> Schedule {
        let id = UserId::new();
        let sql = "INSERT INTO users (id, email, password_hash, role, created_at, updated_at) VALUES ($1, 'ada@example.org', '', 'user', now(), now())";
        sqlx::query(sql).bind(id.0).execute(&self.ctx.pg).await.unwrap();
        let owner = shared::Caller::new(id, Role::User, Role::User.scopes(), Credential::Session(SessionId::new()));
        let new: NewSchedule =
            serde_json::from_str(&json!({"name": "tick", "kind": "debug.echo", "every_ms": 1000, "catch_up": true}).to_string()).unwrap();
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let schedule = operations::create(&self.ctx, &mut tx, &owner, new).await.unwrap();
        tx.commit().await.unwrap();
        operations::ring(&self.ctx).await;
        schedule
    }

    /// Occurrences that fired, in order, and how many jobs came of them.
    async fn runs(&self) -> (Vec<OffsetDateTime>, i64) {
        let fired = sqlx::query_scalar("SELECT fire_at FROM schedule_runs ORDER BY fire_at").fetch_all(&self.ctx.pg).await.unwrap();
        let jobs = sqlx::query_scalar("SELECT count(*) FROM jobs_all WHERE kind = 'debug.echo'").fetch_one(&self.ctx.pg).await.unwrap();
        (fired, jobs)
    }

    async fn until_fired(&self, n: usize) -> Vec<OffsetDateTime> {
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            let (fired, _) = self.runs().await;
            if fired.len() >= n {
                return fired;
            }
            assert!(Instant::now() < deadline, "only {} occurrences fired", fired.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_occurrence_fires_once_though_the_leader_is_killed() {
    let world = World::new().await;
    let first = world.worker(&[]);
    world.children(1, &[]).await;
    let _second = world.worker(&[]);
    world.children(2, &[]).await;
    let schedule = world.every_second().await;
    let before = world.until_fired(2).await.len();
    // The first one up was elected; its child ends with it.
    drop(first);
    let fired = world.until_fired(before + 3).await;
    let expected = (0..).map(|n| schedule.next_run_at.unwrap() + Duration::from_secs(n)).take(fired.len()).collect::<Vec<_>>();
    assert_eq!(fired, expected, "none is left out, and none comes twice");
    sqlx::query("UPDATE schedules SET paused = true, next_run_at = NULL").execute(&world.ctx.pg).await.unwrap();
    let (fired, n_jobs) = world.runs().await;
    let distinct = fired.iter().collect::<BTreeSet<_>>().len();
    assert_eq!((distinct, i64::try_from(distinct).unwrap()), (fired.len(), n_jobs), "one job each");
}
