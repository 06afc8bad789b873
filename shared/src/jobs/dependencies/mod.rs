//! Jobs that wait for others (`depends_on`): asked for at the submit, and released or ended when those end.
//!
//! A job that waits is a row in the state `waiting`, unknown to Redis, and a row of `job_dependencies` for each job that it waits for.
//! Whoever is waited for is marked, so that the statement that ends it tells; jobs without the mark end as if there were none of this.
//! In reading order: [`resolve`], then [`look_after`] (what may have happened meanwhile), [`release`], [`recheck`].

pub(super) mod release;
pub(super) mod store;

use super::{NewJob, QueueName, SubmitJob, aftermath, engine::followers};
use crate::{Caller, Context, Error, Result, clock::unix_ms, ids::JobId};
use std::collections::{HashMap, HashSet};
use store::{End, Over};
use uuid::Uuid;

/// Jobs that one step of [`recheck`] looks at.
const PAGE: i64 = 1_000;
/// Jobs that one step ends.
const OVERDUE: i64 = 1_000;

/// How jobs stand that others are to wait for.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<JobId, String>);

/// Looks at the jobs that these submits are to wait for, and has their ends told from now on.
pub(super) async fn resolve(ctx: &Context, caller: &Caller, submits: impl IntoIterator<Item = &SubmitJob>) -> Result<Known> {
    let mut asked = submits.into_iter().filter_map(|submit| submit.depends_on.as_ref()).flatten().map(|id| id.0).collect::<Vec<_>>();
    if asked.is_empty() {
        return Ok(Known::default());
    }
    asked.sort_unstable();
    asked.dedup();
    let found = store::mark_awaited(&ctx.for_process().pg, &asked, caller.owner_filter()).await?;
    Ok(Known(found.into_iter().map(|asked| (asked.id, asked.state)).collect()))
}

impl Known {
    /// The jobs that `submit` has to wait for.
    pub(super) fn open_dependencies(&self, submit: &SubmitJob, max: usize) -> Result<Vec<JobId>> {
        let asked = submit.depends_on.as_deref().unwrap_or_default();
        if asked.len() > max {
            return Err(Error::invalid("/depends_on", "length", format!("must name at most {max} jobs")));
        }
        let unknown = |(at, id): (usize, &JobId)| (!self.0.contains_key(id)).then_some(at);
        if let Some(at) = asked.iter().enumerate().find_map(unknown) {
            let detail = "is no job of yours that there is, or is kept by Redis alone";
            return Err(Error::invalid(format!("/depends_on/{at}"), "not_found", detail));
        }
        let mut seen = HashSet::new();
        let is_open = |id: &&JobId| self.0.get(id).is_some_and(|state| state != "succeeded") && seen.insert(**id);
        Ok(asked.iter().filter(is_open).copied().collect())
    }
}

/// What these committed jobs wait for may have ended before anybody could know that they wait. A failure is only logged: the leader
/// looks too.
pub(super) async fn look_after(ctx: &Context, jobs: &[&NewJob]) {
    let mut ids = jobs.iter().flat_map(|job| &job.depends_on).map(|id| id.0).collect::<Vec<_>>();
    if ids.is_empty() {
        return;
    }
    ids.sort_unstable();
    ids.dedup();
    match store::note_ended(&ctx.pg, &ids).await {
        Ok(n_ended) => aftermath::note(ctx, (n_ended > 0).then_some((true, None))),
        Err(error) => tracing::warn!(%error, "whether jobs wait for something that is over is left to the leader to find"),
    }
}

/// Cancels a job that waits for others; `false` when it does not wait (any more).
pub(super) async fn cancel_waiting(ctx: &Context, id: JobId) -> Result<bool> {
    let end = End { id, state: "cancelled", error_code: None, error_message: None };
    let over = store::end_waiting(&ctx.pg, &[end], ctx.clock.now()).await?;
    tell(ctx, &over).await;
    Ok(!over.is_empty())
}

/// Cancels those of `ids` that wait for others; returns which they were.
pub(super) async fn cancel_all_waiting(ctx: &Context, ids: &[Uuid]) -> Result<HashSet<JobId>> {
    let end = |id: &Uuid| End { id: JobId(*id), state: "cancelled", error_code: None, error_message: None };
    let over = store::end_waiting(&ctx.pg, &ids.iter().map(end).collect::<Vec<_>>(), ctx.clock.now()).await?;
    tell(ctx, &over).await;
    Ok(over.into_iter().map(|over| over.id).collect())
}

/// Tells who follows jobs that ended while they waited, and sees to what their ends leave to be done.
async fn tell(ctx: &Context, over: &[Over]) {
    aftermath::note(ctx, over.iter().map(|over| (over.awaited, over.batch_id)));
    let at_ms = unix_ms(ctx.clock.now());
    let mut by_queue: HashMap<&str, Vec<(JobId, String)>> = HashMap::new();
    for Over { id, queue, state, .. } in over {
        by_queue.entry(queue).or_default().push((*id, format!("{id} {state} 0 {at_ms}")));
    }
    for (queue, lines) in by_queue {
        let Ok(queue) = QueueName::new(queue) else { continue };
        if let Err(error) = followers::tell(ctx, &queue, &lines).await {
            tracing::debug!(%error, %queue, "who follows jobs that ended waiting does not hear of it");
        }
    }
}

/// Looks through the next jobs that are waited for: notes those that are over, and ends what waits for one past its
/// time, or against a wish to cancel it. Returns where
/// to go on, `None` at the end.
pub(super) async fn recheck(ctx: &Context, after: Uuid) -> Result<Option<Uuid>> {
    let ids = store::awaited_page(&ctx.pg, after, PAGE).await?;
    let Some(last) = ids.last().copied() else { return Ok(None) };
    let n_ended = store::note_ended(&ctx.pg, &ids).await?;
    aftermath::note(ctx, (n_ended > 0).then_some((true, None)));
    let now = ctx.clock.now();
    let overdue = store::overdue_waiting_for(&ctx.pg, &ids, now, OVERDUE).await?;
    if !overdue.is_empty() {
        let state = |is_cancel_requested| if is_cancel_requested { "cancelled" } else { "expired" };
        let end = |(id, is_cancel_requested)| End { id, state: state(is_cancel_requested), error_code: None, error_message: None };
        let over = store::end_waiting(&ctx.pg, &overdue.into_iter().map(end).collect::<Vec<_>>(), now).await?;
        tell(ctx, &over).await;
    }
    Ok(i64::try_from(ids.len()).is_ok_and(|n| n == PAGE).then_some(last))
}
