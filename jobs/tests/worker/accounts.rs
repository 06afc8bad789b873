//! What the leader does for accounts.

use crate::world::World;
use std::time::{Duration, Instant};
use uuid::Uuid;

#[tokio::test]
async fn the_leader_removes_what_is_left_of_deleted_accounts() {
    let world = World::new().await;
    let pg = &world.ctx.pg;
    let _worker = world.worker(&[]);
    // The second one comes after it has looked.
    for email in ["deleted:a", "deleted:b"] {
        let id: Uuid = sqlx::query_scalar(
            "INSERT INTO users (id, email, password_hash, role, disabled, created_at, updated_at, deleted_at)
             VALUES (gen_random_uuid(), $1, '', 'user', true, now(), now(), now())
             RETURNING id",
        )
        .bind(email)
        .fetch_one(pg)
        .await
        .unwrap();
        let letters = "INSERT INTO points_dead (id, point, code, detail, submitted_by, for_all, received_at)
                       SELECT gen_random_uuid(), '{}', 'refused', 'no', id, false, now() FROM users WHERE id = $1";
        sqlx::query(letters).bind(id).execute(pg).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let what_is_left = "SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM points_dead)";
        while sqlx::query_scalar::<_, i64>(what_is_left).fetch_one(pg).await.unwrap() > 0 {
            assert!(Instant::now() < deadline, "it is removed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
