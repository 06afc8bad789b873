//! A worker whose clock is ten minutes off: what it writes is right by Redis' clock all the same.

use super::*;
use crate::{
    clock::unix_ms,
    jobs::engine::{reconcile, timekeeping},
};
use rstest::rstest;

async fn redis_ms(ctx: &Context) -> i64 {
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut ctx.redis.connection()).await.unwrap();
    seconds * 1_000 + micros / 1_000
}

#[rstest]
#[case::ahead(600)]
#[case::behind(-600)]
#[tokio::test]
async fn a_clock_that_is_off_is_set_by_redis(#[case] off_s: i64) {
    let stores = TestStores::create().await;
    let ctx = stores.context(&[]);
    ctx.clock.advance(time::Duration::seconds(off_s));
    assert!((unix_ms(ctx.clock.now()) - redis_ms(&ctx).await).abs() > 500_000);
    timekeeping::look(&ctx).await;
    assert!((unix_ms(ctx.clock.now()) - redis_ms(&ctx).await).abs() < 5_000);
    // It goes on following: the machine's clock is put right while we run.
    ctx.clock.advance(time::Duration::seconds(-off_s));
    timekeeping::look(&ctx).await;
    assert!((unix_ms(ctx.clock.now()) - redis_ms(&ctx).await).abs() < 5_000);
}

#[rstest]
#[case::ahead(600)]
#[case::behind(-600)]
#[tokio::test]
async fn a_retry_waits_its_time_whatever_the_workers_clock_says(#[case] off_s: i64) {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    fixture.ctx.clock.advance(time::Duration::seconds(off_s));
    timekeeping::look(&fixture.ctx).await;
    let (token, standing) = fixture.start_one(&worker()).await;
    let failed = fixture.conclusion(token, standing, Outcome::retry("e", "no luck"));
    crate::jobs::engine::settle::write(&fixture.ctx, &[failed]).await.unwrap();
    let wait_ms = unix_ms(fixture.row_of(job.id).await.unwrap().run_at) - redis_ms(&fixture.ctx).await;
    assert!((50_000..=60_500).contains(&wait_ms), "{wait_ms}");
}

#[tokio::test]
async fn a_leader_whose_clock_is_ahead_expires_nothing_that_has_time_left() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let within = "UPDATE jobs SET expires_at = now() + interval '5 minutes' WHERE id = $1";
    sqlx::query(within).bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
    fixture.ctx.clock.advance(time::Duration::minutes(10));
    timekeeping::look(&fixture.ctx).await;
    reconcile::repair_rows(&fixture.ctx, uuid::Uuid::nil(), uuid::Uuid::max()).await.unwrap();
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "pending");
    // Uncorrected it would have been taken for expired: the test can tell.
    fixture.ctx.clock.advance(time::Duration::minutes(10));
    reconcile::repair_rows(&fixture.ctx, uuid::Uuid::nil(), uuid::Uuid::max()).await.unwrap();
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "expired");
}
