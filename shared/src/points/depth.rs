//! How many points wait in the streams, as far as this process knows: looked up every tenth of a second while points come, and counted on in
//! between by what the process itself appends. So a refusal costs no round trip, and comes before a body is read.

use super::shard::SHARDS_MAX;
use crate::{
    Code, Context, Error, Result,
    clock::unix_ms,
    ids::UserId,
    telemetry::{
        metrics::{INGEST_AGE, INGEST_DEPTH},
        page::Page,
    },
};
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// From so much of the whole on, only those may send who have little of it.
const KEPT_FROM: (u64, u64) = (3, 4);
/// That is little: one part in so many, which several processes count each for itself.
const LITTLE: u64 = 16;

#[derive(Debug, Default)]
pub struct Depth {
    points: AtomicU64,
    /// What this process has appended for each user since there were few points.
    by_user: Mutex<HashMap<UserId, u64>>,
    /// When somebody last began to look.
    looked_at: Mutex<Option<Instant>>,
}

impl Depth {
    pub(super) fn add(&self, user_id: UserId, n_points: u64) {
        self.points.fetch_add(n_points, Ordering::Relaxed);
        *self.lock_by_user().entry(user_id).or_default() += n_points;
    }

    fn lock_by_user(&self) -> MutexGuard<'_, HashMap<UserId, u64>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more of this user would be too many, where `most` may wait.
    fn is_full_for(&self, user_id: UserId, most: u64) -> bool {
        let n_points = self.points.load(Ordering::Relaxed);
        let (part, of) = KEPT_FROM;
        n_points >= most
            || n_points >= most * part / of && self.lock_by_user().get(&user_id).is_some_and(|n_theirs| *n_theirs > most / LITTLE)
    }

    /// So many wait.
    fn saw(&self, n_points: u64, most: u64) {
        self.points.store(n_points, Ordering::Relaxed);
        if n_points < most / 2 {
            self.lock_by_user().clear();
        }
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

/// Refuses more points while `INGEST_MAX_DEPTH` of them wait, and while three quarters of that do to a user who has sent many of them.
pub async fn check(ctx: &Context, user_id: UserId) -> Result<()> {
    let most = ctx.settings().ingest_max_depth;
    look_if_due(ctx).await?;
    if !ctx.points.depth.is_full_for(user_id, most) {
        return Ok(());
    }
    // Not all at the same moment.
    let pause = Duration::from_secs(rand::random_range(1..=3));
    Err(Error::new(Code::IngestFull, format!("Too many points wait to be stored already: {most} may.")).retry_after(pause))
}

/// Whether fewer than so many wait.
pub(super) async fn is_below(ctx: &Context, most: u64) -> Result<bool> {
    look_if_due(ctx).await?;
    Ok(ctx.points.depth.points.load(Ordering::Relaxed) < most)
}

async fn look_if_due(ctx: &Context) -> Result<()> {
    if ctx.points.depth.take_turn() {
        look(ctx).await?;
    }
    Ok(())
}

/// How many points wait, over all shards.
pub async fn look(ctx: &Context) -> Result<u64> {
    let mut pipe = redis::pipe();
    for shard in 0..SHARDS_MAX {
        pipe.get(ctx.keys.points_depth(shard));
    }
    let depths: Vec<Option<u64>> = pipe.query_async(&mut ctx.redis.connection()).await?;
    let n_points = depths.into_iter().flatten().sum();
    ctx.points.depth.saw(n_points, ctx.settings().ingest_max_depth);
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
