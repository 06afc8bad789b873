//! A master of Redis that is killed, or hangs, until another has taken over; and how long it takes until jobs run again.

use crate::processes;
use nix::sys::signal::Signal;
use shared::{Context, testing::server_of};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::Notify;

const QUEUE: &str = "default";
/// A failover that takes longer is none.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn kill_master(ctx: &Context, told: &Notify) {
    let (master, struck) = strike(ctx, Signal::SIGKILL, told).await;
    until_replaced(ctx, &queue_key(ctx), master).await;
    until_consumed(ctx, "killed", struck).await;
}

pub(crate) async fn stop_master(ctx: &Context, told: &Notify) {
    let (master, struck) = strike(ctx, Signal::SIGSTOP, told).await;
    until_replaced(ctx, &queue_key(ctx), master).await;
    until_consumed(ctx, "stopped", struck).await;
    processes::send(master, Signal::SIGCONT);
}

/// Tells when it is done, so that jobs are submitted after it.
async fn strike(ctx: &Context, signal: Signal, told: &Notify) -> (i32, (Instant, OffsetDateTime)) {
    let master = master(ctx, &queue_key(ctx)).await;
    processes::send(master, signal);
    let struck = (Instant::now(), OffsetDateTime::now_utc());
    told.notify_one();
    (master, struck)
}

fn queue_key(ctx: &Context) -> String {
    ctx.keys.queue(QUEUE, "cfg")
}

/// The process that takes a key's writes, once it answers.
pub(crate) async fn master(ctx: &Context, key: &str) -> i32 {
    let answered = async {
        loop {
            if let Some(pid) = server_of(&ctx.redis, key).await.ok().and_then(|info| info.get("process_id")) {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, answered).await.expect("somebody takes the key's writes")
}

pub(crate) async fn until_replaced(ctx: &Context, key: &str, before: i32) {
    let replaced = async {
        while master(ctx, key).await == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, replaced).await.expect("another master takes over");
}

/// Waits until a job that was submitted after the fault has run.
#[expect(clippy::print_stdout, reason = "the figures are what a run is for")]
async fn until_consumed(ctx: &Context, fault: &str, (struck, at): (Instant, OffsetDateTime)) {
    let replaced = struck.elapsed();
    let query = "SELECT EXISTS (SELECT 1 FROM jobs_ended WHERE queue = $1 AND state = 'succeeded' AND created_at > $2)";
    let consumed = async {
        while !sqlx::query_scalar::<_, bool>(query).bind(QUEUE).bind(at).fetch_one(&ctx.pg).await.unwrap_or(false) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, consumed).await.expect("new jobs run again");
    println!("master {fault}: another after {} ms, new jobs run after {} ms", replaced.as_millis(), struck.elapsed().as_millis());
}
