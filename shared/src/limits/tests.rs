//! The bucket against a plain count, and the limiter against a real Redis, with and without it.

use super::{Bucket, Class, Limiter, Principal};
use crate::{config::Rate, ids::UserId, testing::TestStores};
use proptest::prelude::*;
use std::time::Duration;

proptest! {
    #[test]
    fn a_bucket_never_gives_more_than_its_rate(limit in 1u32..50, steps in prop::collection::vec((0u64..200_000, 1u32..10), 1..60)) {
        let rate = Rate { limit, per: Duration::from_secs(1) };
        let (mut bucket, mut now_us, mut granted) = (Bucket::default(), 5_000_000, 0u64);
        let start_us = now_us;
        for (pause_us, wanted) in steps {
            now_us += pause_us;
            granted += u64::from(bucket.take(rate, wanted, now_us).granted);
            let allowed = u64::from(limit) + (now_us - start_us) / super::bucket::interval_us(rate);
            prop_assert!(granted <= allowed, "{granted} > {allowed}");
        }
    }
}

async fn allowed(limiter: &Limiter, ctx: &crate::Context, class: Class, principal: Principal, tries: u32) -> u32 {
    let mut allowed = 0;
    for _ in 0..tries {
        let verdict = limiter.check(ctx, class, principal).await.expect("limits are on");
        allowed += u32::from(verdict.retry_after.is_none());
    }
    allowed
}

#[tokio::test]
async fn two_processes_share_one_quota() {
    let stores = TestStores::create().await;
    let ctx = stores.context(&[("RATE_LIMIT_WRITE", "300/h")]);
    let (one, other) = (Limiter::new(100), Limiter::new(100));
    let user = Principal::User(UserId::new());
    let total = allowed(&one, &ctx, Class::Write, user, 200).await + allowed(&other, &ctx, Class::Write, user, 200).await;
    assert!((295..=300).contains(&total), "{total} of 300 allowed: never more, and only a slice less");
}

#[tokio::test]
async fn callers_and_classes_are_counted_apart() {
    let stores = TestStores::create().await;
    let ctx = stores.context(&[("RATE_LIMIT_LOGIN", "2/h"), ("RATE_LIMIT_READ", "3/h")]);
    let limiter = Limiter::new(100);
    let (ann, bob) = (Principal::User(UserId::new()), Principal::User(UserId::new()));
    assert_eq!(allowed(&limiter, &ctx, Class::Login, ann, 5).await, 2);
    assert_eq!(allowed(&limiter, &ctx, Class::Login, bob, 5).await, 2);
    assert_eq!(allowed(&limiter, &ctx, Class::Read, ann, 5).await, 3);
}

#[tokio::test]
async fn a_network_of_ipv6_has_one_quota() {
    let stores = TestStores::create().await;
    let ctx = stores.context(&[("RATE_LIMIT_LOGIN_ADDRESS", "4/h")]);
    let limiter = Limiter::new(100);
    let address = |text: &str| Principal::Address(text.parse().unwrap());
    let (one, other, next) = (address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::7"), address("2001:db8:1:3::1"));
    assert_eq!(allowed(&limiter, &ctx, Class::LoginAddress, one, 3).await, 3);
    assert_eq!(allowed(&limiter, &ctx, Class::LoginAddress, other, 3).await, 1);
    assert_eq!(allowed(&limiter, &ctx, Class::LoginAddress, next, 3).await, 3);
    let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
    assert_eq!(
        allowed(&limiter, &ctx, Class::LoginAddress, one, 5).await + allowed(&limiter, &ctx, Class::LoginAddress, other, 5).await,
        8
    );
}

#[tokio::test]
async fn without_redis_the_process_counts_alone() {
    let stores = TestStores::create().await;
    let ctx = stores.context(&[("REDIS_URL", "redis://127.0.0.1:1"), ("RATE_LIMIT_READ", "20/h")]);
    assert_eq!(allowed(&Limiter::new(100), &ctx, Class::Read, Principal::User(UserId::new()), 50).await, 20);
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back() {
    let stores = TestStores::create().await;
    let ctx = stores.context(&[("RATE_LIMIT_LOGIN", "1/m")]);
    let (limiter, user) = (Limiter::new(100), Principal::User(UserId::new()));
    assert_eq!(allowed(&limiter, &ctx, Class::Login, user, 1).await, 1);
    let verdict = limiter.check(&ctx, Class::Login, user).await.expect("limits are on");
    let retry_after = verdict.refusal().and_then(|error| error.retry_after).expect("the second is refused");
    assert!(retry_after <= Duration::from_mins(1) && retry_after >= Duration::from_secs(1), "{retry_after:?}");
}
