//! How other processes learn of revocations: over Redis within a second, by polling without Redis.

use crate::world::{HERE, World, eventually};
use shared::{
    Code,
    accounts::{Accounts, Origin, Session, sessions::logout},
};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

fn run(accounts: &Accounts) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(accounts.clone().run_background(stop.clone()));
    stop.drop_guard()
}

async fn end(world: &World, session: &Session) {
    let caller = world.caller(session).await;
    logout(&world.accounts, &caller, &session.refresh_token.as_str().into(), &Origin::default()).await.unwrap();
}

async fn n_listeners(world: &World) -> usize {
    let (mut redis, channel) = (world.accounts.ctx.redis.connection(), world.accounts.ctx.keys.revocations());
    // One answer from each server.
    let counts: Vec<(String, usize)> = redis::cmd("PUBSUB").arg("NUMSUB").arg(channel).query_async(&mut redis).await.unwrap();
    let count: usize = counts.iter().map(|(_, n)| n).sum();
    count
}

async fn refuses(accounts: &Accounts, session: &Session) -> bool {
    accounts.authenticate(&session.access_token, HERE).await.is_err_and(|error| error.code == Code::InvalidToken)
}

#[tokio::test]
async fn another_process_hears_of_it_over_redis_within_a_second() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    let other = world.another(&[("REVOCATION_POLL_MS", "60000")]).await;
    let _running = run(&other);
    eventually(Duration::from_secs(5), || async { n_listeners(&world).await == 1 }).await;
    assert!(other.authenticate(&session.access_token, HERE).await.is_ok());
    end(&world, &session).await;
    eventually(Duration::from_secs(1), || refuses(&other, &session)).await;
}

#[tokio::test]
async fn without_redis_it_is_found_by_polling() {
    let world = World::with(&[("REDIS_URL", "redis://127.0.0.1:1")]).await;
    let session = world.register("ada@example.org").await;
    let other = world.another(&[("REDIS_URL", "redis://127.0.0.1:1"), ("REVOCATION_POLL_MS", "100")]).await;
    let _running = run(&other);
    assert!(other.authenticate(&session.access_token, HERE).await.is_ok());
    end(&world, &session).await;
    eventually(Duration::from_secs(5), || refuses(&other, &session)).await;
}

#[tokio::test]
async fn a_process_that_starts_later_knows_what_was_revoked_before() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    end(&world, &session).await;
    assert!(refuses(&world.another(&[]).await, &session).await);
}

#[tokio::test]
async fn a_poll_repeats_nothing_and_forgets_nothing() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    let other = world.another(&[]).await;
    end(&world, &session).await;
    for _ in 0..3 {
        other.poll_revocations().await.unwrap();
        assert!(refuses(&other, &session).await);
    }
}

#[tokio::test]
async fn until_the_rows_are_read_nothing_is_believed() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    let blind = world.another(&[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"), ("DB_ACQUIRE_TIMEOUT_MS", "50")]).await;
    let error = blind.authenticate(&session.access_token, HERE).await.unwrap_err();
    assert_eq!(error.code, Code::DatabaseUnavailable);
}
