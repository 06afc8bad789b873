//! The four fates of a key: first, repeated, repeated with another body, and while the first still runs.

use super::{Attempt, IdempotencyKey, StoredAnswer};
use crate::{Code, ids::UserId, testing::TestStores};

fn attempt(principal: UserId, body: &str) -> Attempt {
    Attempt::new(principal, "POST /jobs", IdempotencyKey::parse("order-1").unwrap(), body.as_bytes())
}

fn answer() -> StoredAnswer {
    StoredAnswer { status: 202, location: Some("/api/v1/jobs/1".into()), body: b"{}".to_vec() }
}

#[tokio::test]
async fn the_answer_is_replayed_once_committed() {
    let stores = TestStores::create().await;
    let (ctx, user) = (stores.context(&[]), UserId::new());
    let mut tx = ctx.pg.begin().await.unwrap();
    assert_eq!(attempt(user, "a").begin(&mut tx).await.unwrap(), None);
    attempt(user, "a").record(&mut tx, &answer()).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = ctx.pg.begin().await.unwrap();
    assert_eq!(attempt(user, "a").begin(&mut tx).await.unwrap(), Some(answer()));
    assert_eq!(attempt(UserId::new(), "a").begin(&mut tx).await.unwrap(), None, "another caller's key is another key");
}

#[tokio::test]
async fn a_rolled_back_answer_leaves_nothing() {
    let stores = TestStores::create().await;
    let (ctx, user) = (stores.context(&[]), UserId::new());
    let mut tx = ctx.pg.begin().await.unwrap();
    attempt(user, "a").begin(&mut tx).await.unwrap();
    attempt(user, "a").record(&mut tx, &answer()).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = ctx.pg.begin().await.unwrap();
    assert_eq!(attempt(user, "a").begin(&mut tx).await.unwrap(), None);
}

#[tokio::test]
async fn another_body_is_refused() {
    let stores = TestStores::create().await;
    let (ctx, user) = (stores.context(&[]), UserId::new());
    let mut tx = ctx.pg.begin().await.unwrap();
    attempt(user, "a").begin(&mut tx).await.unwrap();
    attempt(user, "a").record(&mut tx, &answer()).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = ctx.pg.begin().await.unwrap();
    assert_eq!(attempt(user, "b").begin(&mut tx).await.unwrap_err().code, Code::IdempotencyKeyReused);
}

#[tokio::test]
async fn a_second_request_does_not_wait_for_the_first() {
    let stores = TestStores::create().await;
    let (ctx, user) = (stores.context(&[]), UserId::new());
    let mut first = ctx.pg.begin().await.unwrap();
    attempt(user, "a").begin(&mut first).await.unwrap();
    let mut second = ctx.pg.begin().await.unwrap();
    assert_eq!(attempt(user, "a").begin(&mut second).await.unwrap_err().code, Code::IdempotencyInProgress);
}

#[tokio::test]
async fn old_answers_are_pruned_and_fresh_ones_stay() {
    let stores = TestStores::create().await;
    let (ctx, user) = (stores.context(&[]), UserId::new());
    let mut tx = ctx.pg.begin().await.unwrap();
    attempt(user, "a").begin(&mut tx).await.unwrap();
    attempt(user, "a").record(&mut tx, &answer()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(super::prune(&ctx.pg, 100).await.unwrap(), 0);
    assert_eq!(super::store::delete_older_than(&ctx.pg, std::time::Duration::ZERO, 100).await.unwrap(), 1);
}
