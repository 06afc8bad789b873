//! How many points wait in the streams, as far as this process knows: looked up every tenth of a second while points come, and counted on in
//! between by what the process itself appends. So a refusal costs no round trip, and comes before a body is read.

use super::shard::SHARDS_MAX;
use crate::{
    Code, Context, Error, Result,
    clock::unix_ms,
    telemetry::{
        metrics::{INGEST_AGE, INGEST_DEPTH},
        page::Page,
    },
};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Depth {
    points: AtomicU64,
    /// When somebody last began to look.
    looked_at: Mutex<Option<Instant>>,
}

impl Depth {
    pub(super) fn add(&self, n_points: u64) {
        self.points.fetch_add(n_points, Ordering::Relaxed);
    }

    /// Whether it is the caller's turn to look.
    fn take_turn(&self) -> bool {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if is_due {
            *looked_at = Some(Instant::now());
        }
        is_due
    }
}

/// Refuses more points while `INGEST_MAX_DEPTH` of them wait.
pub async fn check(ctx: &Context) -> Result<()> {
    let most = ctx.settings().ingest_max_depth;
    if is_below(ctx, most).await? {
        return Ok(());
    }
    // Not all at the same moment.
    let pause = Duration::from_secs(rand::random_range(1..=3));
    Err(Error::new(Code::IngestFull, format!("{most} points wait to be stored already.")).retry_after(pause))
}

/// Whether fewer than so many wait.
pub(super) async fn is_below(ctx: &Context, most: u64) -> Result<bool> {
    let depth = &ctx.points.depth;
    if depth.take_turn() {
        look(ctx).await?;
    }
    Ok(depth.points.load(Ordering::Relaxed) < most)
}

/// How many points wait, over all shards.
pub async fn look(ctx: &Context) -> Result<u64> {
    let mut pipe = redis::pipe();
    for shard in 0..SHARDS_MAX {
        pipe.get(ctx.keys.points_depth(shard));
    }
    let depths: Vec<Option<u64>> = pipe.query_async(&mut ctx.redis.connection()).await?;
    let n_points = depths.into_iter().flatten().sum();
    ctx.points.depth.points.store(n_points, Ordering::Relaxed);
    Ok(n_points)
}

/// Tells how many points wait, and since when the first of them.
pub async fn tell(ctx: &Context, page: &mut Page) -> Result<()> {
    page.single(INGEST_DEPTH, look(ctx).await?);
    let mut pipe = redis::pipe();
    for shard in 0..SHARDS_MAX {
        pipe.cmd("XRANGE").arg(ctx.keys.points_stream(shard)).arg("-").arg("+").arg("COUNT").arg(1);
    }
    let firsts: Vec<Vec<(String, redis::Value)>> = pipe.query_async(&mut ctx.redis.connection()).await?;
    // An entry's id begins with when it was appended.
    let since_ms = firsts.iter().flatten().filter_map(|(id, _)| id.split_once('-')?.0.parse::<i64>().ok()).min();
    let age_ms = since_ms.map_or(0, |since_ms| (unix_ms(ctx.clock.now()) - since_ms).max(0));
    page.single(INGEST_AGE, age_ms as f64 / 1_000.0);
    Ok(())
}
