//! From the streams to the tables. In reading order: this file (which shards this process works on), `consumer` (one shard: read, store,
//! acknowledge), `batch` (entries into rows), `tracks` (whose they are), `writing` (a batch in as many transactions as it takes; retries,
//! bisecting), `transaction` (one of them), `fold` (hours), `breaker` (waiting for PostgreSQL), [`now`] (without a stream).
//!
//! Nothing is acknowledged before it is committed, and whatever is done twice changes nothing: so a process may die at any point.

mod batch;
mod breaker;
mod consumer;
mod fold;
pub mod now;
mod tracks;
mod transaction;
mod writing;

pub use tracks::KnownTracks;

use super::shard::{self, SHARDS_MAX};
use crate::{Context, Result, vital::steadily};
pub(crate) use fold::HourFold;
pub(super) use transaction::Limits;
#[cfg(test)]
pub(super) use transaction::write_in;

use breaker::Breaker;
use consumer::Consumer;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::interval};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether shards that are no longer written to still hold points.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Stores points until it is told to stop, and then ends when the batches under way are stored. `name` is that of the consumers, and
/// no other process's.
pub async fn run(ctx: &Context, name: &str, stop: &CancellationToken) {
    let breaker = Arc::new(Breaker::default());
    let mut consumers = JoinSet::new();
    let mut running = HashSet::new();
    let mut ticks = interval(LOOK_EVERY);
    while !stop.is_cancelled() {
        let left = left_over(ctx).await.unwrap_or_default();
        for shard in (0..shard::count(ctx)).chain(left) {
            if running.insert(shard) {
                let (ctx, name, breaker, stop) = (ctx.clone(), name.to_owned(), Arc::clone(&breaker), stop.clone());
                let consume = move || {
                    let (consumer, stop) = (Consumer::new(ctx.clone(), shard, name.clone(), Arc::clone(&breaker)), stop.clone());
                    async move { consumer.run(&stop).await }
                };
                // Entries that a panic left behind are still given to this name, and are taken first.
                consumers.spawn(steadily("consumer of points", consume));
            }
        }
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => {}
        }
    }
    while consumers.join_next().await.is_some() {}
}

/// Shards beyond those that are written to that hold points: `INGEST_SHARDS` was larger once.
async fn left_over(ctx: &Context) -> Result<Vec<u16>> {
    let mut pipe = redis::pipe();
    for shard in 0..SHARDS_MAX {
        pipe.get(ctx.keys.points_depth(shard));
    }
    let depths: Vec<Option<i64>> = pipe.query_async(&mut ctx.redis.connection()).await?;
    let beyond = (0..SHARDS_MAX).zip(depths).skip(usize::from(shard::count(ctx)));
    Ok(beyond.filter(|(_, depth)| depth.is_some_and(|depth| depth > 0)).map(|(shard, _)| shard).collect())
}
