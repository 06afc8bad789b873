//! What the end of a job leaves to be done for others: those who wait for it, and its batch.
//!
//! The statement that ends a job only notes that it did. The process that ran it comes here at once; what a killed process leaves is
//! found by the leader, which looks every second. Whoever comes first, it is done once: the notes are taken in the transaction of
//! what follows from them.

use super::{
    batches::counting,
    dependencies::{self, release},
};
use crate::{Context, Error, Result, ids::BatchId};
use futures_util::FutureExt;
use std::{
    collections::HashSet,
    mem,
    panic::AssertUnwindSafe,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use uuid::Uuid;

/// Between two rounds of one process: what ends meanwhile goes together, so that a batch of many short jobs costs few transactions.
const ROUND_EVERY: Duration = Duration::from_millis(5);
/// Batches that one look of the leader takes, and pages of dependencies that it goes through.
const BATCHES_AT_ONCE: i64 = 1_000;
const PAGES: usize = 10;

/// What this process has to do; nothing that would be missed if it were lost.
#[derive(Debug, Default)]
pub(super) struct Aftermath(Mutex<Work>);

#[derive(Debug, Default)]
struct Work {
    batches: HashSet<BatchId>,
    has_dependencies: bool,
    is_under_way: bool,
}

impl Aftermath {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` ends the task.
    fn take(&self) -> Option<(HashSet<BatchId>, bool)> {
        let mut work = self.lock();
        let taken = (mem::take(&mut work.batches), mem::take(&mut work.has_dependencies));
        work.is_under_way = !taken.0.is_empty() || taken.1;
        work.is_under_way.then_some(taken)
    }
}

/// Sees to what these ends leave to be done; of most jobs, that is nothing. Each says whether others may wait for it, and its batch.
pub(super) fn note(ctx: &Context, ends: impl IntoIterator<Item = (bool, Option<BatchId>)>) {
    let mut ends = ends.into_iter().filter(|(is_awaited, batch_id)| *is_awaited || batch_id.is_some()).peekable();
    if ends.peek().is_none() {
        return;
    }
    let mut work = ctx.jobs.aftermath.lock();
    for (is_awaited, batch_id) in ends {
        work.has_dependencies |= is_awaited;
        work.batches.extend(batch_id);
    }
    if !mem::replace(&mut work.is_under_way, true) {
        drop(work);
        ctx.jobs.runtime.spawn(see_to(ctx.for_process()));
    }
}

async fn see_to(ctx: Context) {
    let mut under_way = UnderWay { ctx: &ctx, is_over: false };
    while let Some((batches, has_dependencies)) = ctx.jobs.aftermath.take() {
        if has_dependencies && let Err(error) = release::release_all(&ctx).await {
            tracing::warn!(%error, "jobs whose dependencies ended wait until the leader releases them");
        }
        for id in batches {
            if let Err(error) = counting::count(&ctx, id).await {
                tracing::warn!(%error, batch_id = %id, "a batch is not counted yet; the leader will");
            }
        }
        tokio::time::sleep(ROUND_EVERY).await;
    }
    under_way.is_over = true;
}

/// Where the task ends early, by a panic or with its runtime, the next one can begin.
struct UnderWay<'a> {
    ctx: &'a Context,
    is_over: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.ctx.jobs.aftermath.lock().is_under_way = false;
        }
    }
}

/// Sees to all that is noted, whoever left it; returns one of the failures.
pub async fn see_to_all(ctx: &Context) -> Result<()> {
    // One that cannot be dealt with does not keep the others.
    let mut outcome = release::release_all(ctx).await;
    outcome = outcome.and(release::announce_left(ctx).await);
    for id in counting::left(ctx, BATCHES_AT_ONCE).await? {
        let counted = AssertUnwindSafe(counting::count(ctx, id)).catch_unwind().await;
        outcome = outcome.and(counted.unwrap_or_else(|_| Err(Error::internal(format!("counting batch {id} has panicked")))));
    }
    outcome
}

/// Where the leader's look through all dependencies stands.
#[derive(Debug, Default)]
pub struct Cursor(Uuid);

/// Looks a few pages on through the jobs that are waited for, and notes those that ended without a note: they ended while someone was
/// about to wait for them, or by code that writes no notes. Ends jobs that wait past their `expires_at`, or
/// against a wish to cancel them.
pub async fn look_on(ctx: &Context, cursor: &mut Cursor) -> Result<()> {
    for _ in 0..PAGES {
        match dependencies::recheck(ctx, cursor.0).await? {
            Some(next) => cursor.0 = next,
            None => {
                cursor.0 = Uuid::nil();
                break;
            }
        }
    }
    Ok(())
}
