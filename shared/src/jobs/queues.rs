//! Queues: their settings, how full they are, and what operators do to them. A queue comes to be on first use.

mod dead;
mod purge;
mod settings;
mod stats;

pub use dead::{DeadGroup, DeadLetters, GroupBy, ListDead, Removed, Requeued, SelectDead, delete_dead, list_dead, requeue_dead};
pub use purge::{Purge, Purged, purge};
pub(super) use settings::QueueCache;
pub use settings::{PatchLimits, PatchQueue, PatchRetention, QueueSettings};
pub use stats::{Queue, QueueLimits, QueueRetention, QueueStats, Rate};

use super::{QueueName, engine::Paused, race, store};
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    page::{Page, PageRequest},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{sync::Arc, time::Duration};

/// Queues of one page whose stats are read at the same time.
const COUNTED_AT_ONCE: usize = 4;

/// The queues by name, with their stats.
pub async fn list(ctx: &Context, caller: &Caller, request: &PageRequest<String>) -> Result<Page<Queue>> {
    caller.require(Scope::JobsRead)?;
    let rows = store::queues::queues_page(&ctx.pg, request.before.as_deref(), request.fetch()).await?;
    let page = Page::from_rows(rows, request, |row| row.name.clone());
    let counting = page.items.into_iter().map(|settings| stats::queue(ctx, settings));
    let items = stream::iter(counting).buffered(COUNTED_AT_ONCE).try_collect().await?;
    Ok(Page { items, next_cursor: page.next_cursor })
}

pub async fn get(ctx: &Context, caller: &Caller, name: &QueueName) -> Result<Queue> {
    caller.require(Scope::JobsRead)?;
    let settings = settings::existing(ctx, name).await?;
    stats::queue(ctx, settings).await
}

/// Changes settings; a queue that nobody used yet is made by it.
pub async fn update(ctx: &Context, caller: &Caller, name: &QueueName, patch: &PatchQueue) -> Result<Queue> {
    caller.require(Scope::QueuesAdmin)?;
    patch.check()?;
    let mut settings = settings::load_or_create(ctx, name).await?;
    patch.apply(&mut settings)?;
    store::queues::update_queue(&ctx.pg, &settings).await?;
    ctx.jobs.queues.forget(name);
    stats::queue(ctx, settings).await
}

/// Stops leasing from a queue; what runs goes on, and submits are still taken.
pub async fn pause(ctx: &Context, caller: &Caller, name: &QueueName) -> Result<Queue> {
    set_paused(ctx, caller, name, Paused::Yes).await
}

/// Leases from a paused queue again.
pub async fn resume(ctx: &Context, caller: &Caller, name: &QueueName) -> Result<Queue> {
    set_paused(ctx, caller, name, Paused::No).await
}

async fn set_paused(ctx: &Context, caller: &Caller, name: &QueueName, paused: Paused) -> Result<Queue> {
    caller.require(Scope::QueuesAdmin)?;
    let existing = settings::existing(ctx, name).await?;
    let settings = QueueSettings { paused: paused == Paused::Yes, ..existing };
    store::queues::update_queue(&ctx.pg, &settings).await?;
    race::set_paused(ctx, name, paused).await;
    stats::queue(ctx, settings).await
}

/// The settings that a submit needs, at most a second or so old; makes the queue on first use.
///
/// Reads on the connections of the process: the caller may hold one of its worker thread's in a transaction, and as many
/// such callers as that pool has connections would wait for each other.
pub(super) async fn for_submit(ctx: &Context, name: &QueueName) -> Result<Arc<QueueSettings>> {
    settings::cached(ctx, name).await
}

/// Refuses `n_jobs` more where the queue has no room for them.
pub(super) async fn check_depth(ctx: &Context, name: &QueueName, n_jobs: usize) -> Result<()> {
    if room(ctx, name).await? < n_jobs { Err(full(name)) } else { Ok(()) }
}

/// How many more jobs a queue takes. Concurrent submits may overshoot it by their number.
pub(super) async fn room(ctx: &Context, name: &QueueName) -> Result<usize> {
    let Some(max_depth) = for_submit(ctx, name).await?.max_depth else { return Ok(usize::MAX) };
    let max_depth = usize::try_from(max_depth).unwrap_or(0);
    let depth = race::depth(&ctx.for_process(), name, max_depth).await?;
    Ok(max_depth.saturating_sub(depth))
}

/// When to try a full queue again.
pub(super) const FULL_FOR: Duration = Duration::from_secs(5);

pub(super) fn full(name: &QueueName) -> Error {
    Error::new(Code::QueueFull, format!("The queue `{name}` is full.")).retry_after(FULL_FOR)
}
