//! The stats of queues, published once a second on `queue:<name>` while somebody is subscribed.

use super::{How, tell};
use crate::{
    Context, Result,
    jobs::{QueueName, QueueStats, queues, race},
    vital::steadily,
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval};

/// Between two publications on the channel of one queue. Counting a queue costs PostgreSQL a few statements.
const EVERY: Duration = Duration::from_secs(1);
/// A process that has told a queue's stats keeps others from it for so long; shorter than [`EVERY`], for its own next turn.
const TURN: Duration = Duration::from_millis(900);
const AT_ONCE: usize = 4;

#[derive(Debug, Serialize)]
struct Told<'a> {
    event: &'static str,
    queue: &'a QueueName,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    paused: bool,
    stats: &'a QueueStats,
}

/// Starts the process's one task that tells stats, when the first queue is followed.
pub(super) fn begin(ctx: &Context) {
    if !ctx.jobs.follows.starts_teller() {
        return;
    }
    let ctx = ctx.for_process();
    ctx.jobs.runtime.clone().spawn(async move { steadily("stats of queues", || keep_telling(&ctx)).await });
}

async fn keep_telling(ctx: &Context) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let told = stream::iter(ctx.jobs.follows.queues()).for_each_concurrent(AT_ONCE, async |queue| {
            if let Err(error) = tell_one(ctx, &queue).await {
                tracing::debug!(%error, %queue, "the stats of a queue are not told");
            }
        });
        told.await;
    }
}

async fn tell_one(ctx: &Context, name: &QueueName) -> Result<()> {
    if !race::takes_turn(ctx, name, TURN).await? {
        return Ok(());
    }
    let queue = queues::current(ctx, name).await?;
    let told = Told { event: "stats", queue: name, at: ctx.clock.now(), paused: queue.paused, stats: &queue.stats };
    tell(ctx, &format!("queue:{name}"), &told, &How { key: None, is_fleeting: false }).await
}
