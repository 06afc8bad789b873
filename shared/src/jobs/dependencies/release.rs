//! What happens to those who wait when jobs end: they run once the last has succeeded, and are cancelled when one ends in another way.

use super::{
    store::{self, End, Ended, Released},
    tell,
};
use crate::{
    Context, Result,
    ids::JobId,
    jobs::{QueueName, cancel, engine::reconcile},
};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Ended jobs that one transaction takes, and jobs that it releases or ends: a short one, however many wait for one job.
const ENDED: i64 = 100;
const WAITING: i64 = 1_000;

/// Goes on until nothing is left that nobody else has taken. What is cancelled here may be waited for too.
pub(in crate::jobs) async fn release_all(ctx: &Context) -> Result<()> {
    while release_some(ctx).await? {}
    Ok(())
}

/// `false` when there was nothing to do.
async fn release_some(ctx: &Context) -> Result<bool> {
    let mut tx = ctx.pg.begin().await?;
    let ended = store::take_ended(&mut tx, ENDED).await?;
    if ended.is_empty() {
        return Ok(false);
    }
    let ended_ids = ended.iter().map(|ended| ended.id.0).collect::<Vec<_>>();
    let pairs = store::waiting_for(&mut tx, &ended_ids, WAITING).await?;
    let waiting_ids = pairs.iter().map(|(job_id, _)| job_id.0).collect::<HashSet<Uuid>>().into_iter().collect::<Vec<_>>();
    let waiting = store::lock_waiting(&mut tx, &waiting_ids).await?;
    store::untie(&mut tx, &pairs).await?;
    let ends = ends(&ended, &pairs, &waiting);
    let over = store::end_waiting(&mut *tx, &ends, ctx.clock.now()).await?;
    let released = store::release(&mut tx, &waiting.iter().map(|id| id.0).collect::<Vec<_>>()).await?;
    // Of jobs that many wait for, the next look takes the rest.
    if i64::try_from(pairs.len()).is_ok_and(|n_pairs| n_pairs < WAITING) {
        store::forget_ended(&mut tx, &ended.iter().map(|ended| ended.note).collect::<Vec<_>>()).await?;
    }
    tx.commit().await?;
    tell(ctx, &over).await;
    if let Err(error) = announce(ctx, &released).await {
        tracing::warn!(%error, n_jobs = released.len(), "released jobs are not announced yet; the leader will");
    }
    Ok(true)
}

/// The ends of those who wait for a job that did not succeed.
fn ends(ended: &[Ended], pairs: &[(JobId, JobId)], waiting: &[JobId]) -> Vec<End> {
    let failed = ended.iter().filter(|ended| ended.state != "succeeded");
    let failed = failed.map(|ended| (ended.id, ended.state.as_str())).collect::<HashMap<JobId, &str>>();
    let mut reasons: HashMap<JobId, (JobId, &str)> = HashMap::new();
    for (job_id, depends_on) in pairs {
        if let Some(state) = failed.get(depends_on) {
            reasons.insert(*job_id, (*depends_on, state));
        }
    }
    let end = |id: &JobId| {
        let (depends_on, state) = reasons.get(id)?;
        let message = match *state {
            "deleted" => format!("the job {depends_on}, which it depends on, was deleted"),
            state => format!("the job {depends_on}, which it depends on, is {state}"),
        };
        Some(End { id: *id, state: "cancelled", error_code: Some("dependency_failed"), error_message: Some(message) })
    };
    waiting.iter().filter_map(end).collect()
}

/// Brings released jobs before the workers; those whose cancel was asked for meanwhile are cancelled.
async fn announce(ctx: &Context, released: &[Released]) -> Result<()> {
    let mut by_queue: HashMap<&str, Vec<JobId>> = HashMap::new();
    for Released { id, queue, .. } in released {
        by_queue.entry(queue).or_default().push(*id);
    }
    for (queue, ids) in by_queue {
        reconcile::announce(ctx, &QueueName::new(queue)?, &ids).await?;
        store::forget_released(&ctx.pg, &ids.iter().map(|id| id.0).collect::<Vec<_>>()).await?;
    }
    for Released { id, queue, .. } in released.iter().filter(|released| released.is_cancel_requested) {
        cancel::carry_out(ctx, &QueueName::new(queue)?, *id).await;
    }
    Ok(())
}

/// Brings before the workers what was released by a process that did not get to it, or while Redis was away.
pub(in crate::jobs) async fn announce_left(ctx: &Context) -> Result<()> {
    loop {
        let left = store::released(&ctx.pg, WAITING).await?;
        announce(ctx, &left).await?;
        if i64::try_from(left.len()).is_ok_and(|n_left| n_left < WAITING) {
            return Ok(());
        }
    }
}
