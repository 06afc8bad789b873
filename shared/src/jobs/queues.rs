//! Queues: their settings, how full they are, and what operators do to them. A queue comes to be on first use.

mod dead;
pub mod figures;
mod purge;
mod settings;
mod stats;

pub use dead::{DeadGroup, DeadLetters, GroupBy, ListDead, Removed, Requeued, SelectDead, delete_dead, list_dead, requeue_dead};
pub use purge::{Purge, Purged, purge};
pub(super) use settings::QueueCache;
pub use settings::{Creator, Durability, PatchLimits, PatchQueue, PatchRate, PatchRetention, QueueSettings};
pub use stats::{Queue, QueueLimits, QueueRetention, QueueStats, Rate};

use super::{
    QueueName,
    engine::{self, Paused},
    race, store, volatile,
};
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    accounts::{
        Origin,
        audit::{self, Action, Deed, Subject},
    },
    page::{Page, PageRequest},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use sqlx::PgConnection;
use std::{sync::Arc, time::Duration};

/// The queues by name, with their stats.
pub async fn list(ctx: &Context, caller: &Caller, request: &PageRequest<String>) -> Result<Page<Queue>> {
    caller.require(Scope::JobsRead)?;
    let rows = store::queues::queues_page(ctx.by_values(), request.before.as_deref(), request.fetch()).await?;
    let page = Page::from_rows(rows, request, |row| row.name.clone());
    let items = stats::queues(ctx, page.items).await?;
    Ok(Page { items, next_cursor: page.next_cursor })
}

pub async fn get(ctx: &Context, caller: &Caller, name: &QueueName) -> Result<Queue> {
    caller.require(Scope::JobsRead)?;
    current(ctx, name).await
}

/// Whether `caller` may see the queue `name`; what there is not nobody sees.
pub async fn is_visible(ctx: &Context, caller: &Caller, name: &QueueName) -> Result<bool> {
    if !caller.scopes.contains(Scope::JobsRead) {
        return Ok(false);
    }
    match settings::existing(ctx, name).await {
        Ok(_) => Ok(true),
        Err(error) if error.code == Code::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What waits and runs over all queues, as Redis counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    pub queued: u64,
    pub running: u64,
}

/// For the platform's own use.
pub async fn backlog(ctx: &Context) -> Result<Backlog> {
    let rows = engine::upkeep::queues(ctx).await?;
    let depths = stream::iter(&rows).map(|row| engine::depths(ctx, &row.name)).buffered(stats::ASKED_AT_ONCE);
    depths
        .try_fold(Backlog::default(), async |sum, depths| {
            Ok(Backlog { queued: sum.queued + depths.queued, running: sum.running + depths.running })
        })
        .await
}

/// A queue as it is now, whoever asks.
pub(super) async fn current(ctx: &Context, name: &QueueName) -> Result<Queue> {
    stats::queue(ctx, settings::existing(ctx, name).await?).await
}

/// Changes settings; a queue that nobody used yet is made by it. `allow` sees the settings as they are (`None`: there is no such
/// queue) while nobody else can change them, and may refuse.
pub async fn update(
    ctx: &Context,
    caller: &Caller,
    name: &QueueName,
    patch: &PatchQueue,
    origin: &Origin,
    allow: impl FnOnce(Option<&QueueSettings>) -> Result<()>,
) -> Result<Queue> {
    caller.require(Scope::QueuesAdmin)?;
    patch.check()?;
    let mut tx = ctx.pg.begin().await?;
    let existing = store::queues::lock_queue(&mut *tx, name.as_str()).await?;
    allow(existing.as_ref())?;
    let mut settings = match existing {
        Some(settings) => settings,
        None => {
            settings::create(ctx, &mut tx, name, Creator::Operator).await?;
            store::queues::lock_queue(&mut *tx, name.as_str()).await?.ok_or_else(|| settings::too_many(ctx))?
        }
    };
    refuse_durability(ctx, &mut tx, name, (settings.durability, patch.durability)).await?;
    patch.apply(&mut settings)?;
    store::queues::update_queue(&mut *tx, &settings).await?;
    let deed = Deed::by(caller, Action::QueueChanged, Subject::Queue, origin).with(json!({ "queue": name.as_str(), "to": settings }));
    audit::record(&mut *tx, ctx.clock.now(), deed).await?;
    tx.commit().await?;
    ctx.jobs.queues.forget(name);
    ctx.jobs.volatile_queues.forget();
    if patch.limits.is_some() {
        race::set_limits(ctx, name, &settings.limits()).await;
    }
    stats::queue(ctx, settings).await
}

/// A queue's durability changes only while it has no live jobs, so that all it has are found in the same place.
async fn refuse_durability(
    ctx: &Context,
    tx: &mut PgConnection,
    name: &QueueName,
    (is, becomes): (Durability, Option<Durability>),
) -> Result<()> {
    if becomes.is_none_or(|becomes| becomes == is) {
        return Ok(());
    }
    if is == Durability::Postgres && store::queues::volatile_queues(&mut *tx).await?.len() >= volatile::QUEUES_MAX {
        let detail = format!("at most {} queues may have `redis`", volatile::QUEUES_MAX);
        return Err(Error::invalid("/durability", "too_many_queues", detail));
    }
    if store::queues::has_live_jobs(&mut *tx, name.as_str()).await? || engine::volatile::n_copies(ctx, name).await? > 0 {
        let detail = "The queue has jobs that are to be done or run: its durability can change when it has none.";
        return Err(Error::new(Code::Conflict, detail));
    }
    Ok(())
}

/// Stops leasing from a queue; what runs goes on, and submits are still taken.
pub async fn pause(ctx: &Context, caller: &Caller, name: &QueueName, origin: &Origin) -> Result<Queue> {
    set_paused(ctx, caller, name, Paused::Yes, origin).await
}

/// Leases from a paused queue again.
pub async fn resume(ctx: &Context, caller: &Caller, name: &QueueName, origin: &Origin) -> Result<Queue> {
    set_paused(ctx, caller, name, Paused::No, origin).await
}

async fn set_paused(ctx: &Context, caller: &Caller, name: &QueueName, paused: Paused, origin: &Origin) -> Result<Queue> {
    caller.require(Scope::QueuesAdmin)?;
    let mut tx = ctx.pg.begin().await?;
    let settings = store::queues::set_paused(&mut *tx, name.as_str(), paused == Paused::Yes).await?;
    let settings = settings.ok_or_else(|| Error::not_found("queue"))?;
    let action = match paused {
        Paused::Yes => Action::QueuePaused,
        Paused::No => Action::QueueResumed,
    };
    let deed = Deed::by(caller, action, Subject::Queue, origin).with(json!({ "queue": name.as_str() }));
    audit::record(&mut *tx, ctx.clock.now(), deed).await?;
    tx.commit().await?;
    race::set_paused(ctx, name, paused).await;
    stats::queue(ctx, settings).await
}

/// Deletes a queue that has nothing to do. Its ended jobs stay, and are kept as long as a queue with no settings keeps them.
///
/// A process that remembers the queue may take a job for it for another second; the reconciler then makes it anew.
pub async fn delete(ctx: &Context, caller: &Caller, name: &QueueName, origin: &Origin) -> Result<()> {
    caller.require(Scope::QueuesAdmin)?;
    if *name == QueueName::default() {
        return Err(Error::new(Code::Conflict, format!("The queue `{name}` stays: jobs that name no queue go there.")));
    }
    let mut tx = ctx.pg.begin().await?;
    let settings = store::queues::lock_queue(&mut *tx, name.as_str()).await?.ok_or_else(|| Error::not_found("queue"))?;
    let is_volatile = settings.durability == Durability::Redis;
    if store::queues::has_live_jobs(&mut *tx, name.as_str()).await? || (is_volatile && engine::volatile::n_copies(ctx, name).await? > 0) {
        return Err(Error::new(Code::Conflict, "The queue has jobs that are to be done or run: purge it, or let it drain."));
    }
    store::queues::delete_queue(&mut *tx, name.as_str()).await?;
    let deed = Deed::by(caller, Action::QueueDeleted, Subject::Queue, origin).with(json!({ "queue": name.as_str() }));
    audit::record(&mut *tx, ctx.clock.now(), deed).await?;
    tx.commit().await?;
    ctx.jobs.queues.forget(name);
    race::forget_queue(ctx, name).await;
    Ok(())
}

/// The settings of a queue that there is, as they are now.
pub(super) async fn existing(ctx: &Context, name: &QueueName) -> Result<QueueSettings> {
    settings::existing(ctx, name).await
}

/// Whether workers outside this platform may lease from the queue; at most a second or so old. What there is not they may not.
pub(super) async fn is_remote(ctx: &Context, name: &QueueName) -> Result<bool> {
    Ok(if_there(ctx, name).await?.is_some_and(|settings| settings.remote))
}

/// The settings that a submit needs, at most a second or so old; makes the queue on first use.
///
/// Reads on the connections of the process: the caller may hold one of its worker thread's in a transaction, and as many
/// such callers as that pool has connections would wait for each other.
pub(super) async fn for_submit(ctx: &Context, name: &QueueName, creator: Creator) -> Result<Arc<QueueSettings>> {
    settings::cached(ctx, name, creator).await
}

/// The same for a job that may yet be refused: `None` where nobody has used the queue.
pub(super) async fn if_there(ctx: &Context, name: &QueueName) -> Result<Option<Arc<QueueSettings>>> {
    settings::cached_if_there(ctx, name).await
}

/// Refuses a job where the queue has no room for it.
pub(super) async fn check_depth(ctx: &Context, name: &QueueName, creator: Creator) -> Result<()> {
    if room(ctx, name, creator).await? < 1 { Err(full(name)) } else { Ok(()) }
}

/// How many more jobs a queue takes. Concurrent submits may overshoot it by their number.
pub(super) async fn room(ctx: &Context, name: &QueueName, creator: Creator) -> Result<usize> {
    let Some(max_depth) = for_submit(ctx, name, creator).await?.max_depth else { return Ok(usize::MAX) };
    let max_depth = usize::try_from(max_depth).unwrap_or(0);
    let depth = race::depth(&ctx.for_process(), name, max_depth).await?;
    Ok(max_depth.saturating_sub(depth))
}

/// When to try a full queue again.
pub(super) const FULL_FOR: Duration = Duration::from_secs(5);

pub(super) fn full(name: &QueueName) -> Error {
    Error::new(Code::QueueFull, format!("The queue `{name}` is full.")).retry_after(FULL_FOR)
}
