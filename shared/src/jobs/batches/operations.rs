//! What callers do to batches: their own, and operators to all.

use super::{Batch, BatchCounts, BatchState, MadeBatch, NewBatch, completion_of, store};
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    accounts::{
        self,
        audit::{self, Action, Deed, Subject},
    },
    endpoints::target,
    ids::{BatchId, JobId},
    jobs::{Origin, QueueName, SubmitJob, aftermath, bulk, cancel, dependencies, race, submit, unique::Accepted},
    page::{Page, PageRequest},
};
use futures_util::{StreamExt, stream};
use serde_json::{json, value::to_raw_value};
use sqlx::PgConnection;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Jobs that one statement of a cancel takes, and cancels that are carried out at once.
const STEP: i64 = 1_000;
const CANCELS_AT_ONCE: usize = 64;
/// How long a cancel goes on carrying out; the reconciler does the rest.
const PATIENCE: Duration = Duration::from_secs(5);

/// A batch in the caller's transaction; [`announce`] it after the commit.
#[derive(Debug)]
pub struct Made {
    pub answer: MadeBatch,
    verdicts: Vec<Result<Accepted>>,
}

/// Makes a batch, with all its jobs or not at all. What `on_complete` could not submit is refused now.
pub async fn create(ctx: &Context, tx: &mut PgConnection, caller: &Caller, new: NewBatch, origin: &Origin) -> Result<Made> {
    caller.require(Scope::JobsWrite)?;
    new.check()?;
    refuse_too_many(ctx, caller).await?;
    let id = BatchId::new();
    let completion_origin = check_completion(ctx, caller, &new, id, origin).await?;
    let jobs_max = i32::try_from(ctx.settings().batch_jobs_max).unwrap_or(i32::MAX);
    let on_complete = new.on_complete.as_ref().map(to_raw_value).transpose().map_err(Error::internal)?;
    let now = ctx.clock.now();
    let (on_complete, completion_origin) = (on_complete.as_deref(), completion_origin.as_deref());
    let row = store::NewRow { id, owner_id: caller.user_id, name: new.name.as_deref(), on_complete, completion_origin, jobs_max };
    store::insert(tx, &row, now).await?;
    let has_jobs = new.jobs.is_some();
    let jobs = new.jobs.unwrap_or_default().into_iter().map(|job| Ok(SubmitJob { batch_id: Some(id), ..job })).collect();
    let verdicts = write_jobs(ctx, tx, caller, jobs, origin).await?;
    if new.closed.unwrap_or(has_jobs) {
        store::close(tx, id, None).await?;
    }
    let batch = store::by_id(&mut *tx, id, None).await?.ok_or_else(not_found)?;
    let ids = verdicts.iter().filter_map(|verdict| match verdict {
        Ok(Accepted::New(job)) => Some(job.id),
        Ok(Accepted::Existing(id)) => Some(*id),
        Err(_) => None,
    });
    let answer = MadeBatch { batch, job_ids: ids.collect() };
    Ok(Made { answer, verdicts })
}

async fn write_jobs(
    ctx: &Context,
    tx: &mut PgConnection,
    caller: &Caller,
    jobs: Vec<Result<SubmitJob>>,
    origin: &Origin,
) -> Result<Vec<Result<Accepted>>> {
    let prepared = Box::pin(bulk::prepare(&ctx.for_process(), caller, jobs, origin)).await?;
    prepared.all_or_nothing(0)?;
    let mut verdicts = prepared.write(ctx, Some(tx)).await;
    // A failure of ours is not told as a refusal.
    if let Some(at) = verdicts.iter().position(|verdict| verdict.as_ref().is_err_and(|error| !error.is_refusal())) {
        return Err(verdicts.swap_remove(at).expect_err("it was looked at"));
    }
    bulk::all_written(&verdicts, 0)?;
    Ok(verdicts)
}

/// Brings the jobs of a committed batch before the workers.
pub async fn announce(ctx: &Context, made: &Made) {
    bulk::announce(ctx, &made.verdicts).await;
    // It may be over already: without jobs, or with none that is new.
    aftermath::note(ctx, made.answer.batch.is_over().then_some((false, Some(made.answer.batch.id))));
}

/// Returns which origin alone the headers of its target are for.
async fn check_completion(ctx: &Context, caller: &Caller, new: &NewBatch, id: BatchId, origin: &Origin) -> Result<Option<String>> {
    let Some(on_complete) = &new.on_complete else { return Ok(None) };
    let submit = completion_of(on_complete, id);
    let checked = Box::pin(submit::prepare_unbounded(&ctx.for_process(), caller, submit, origin.clone())).await;
    let job = checked.map_err(|mut error| {
        error.fields.iter_mut().for_each(|field| field.pointer.insert_str(0, "/on_complete"));
        error
    })?;
    target::origin_of(job.target.as_deref())
}

async fn refuse_too_many(ctx: &Context, caller: &Caller) -> Result<()> {
    let max = ctx.settings().batches_per_user_max;
    // Two at once may both find the last place: it is a bound, and no quota.
    let n_open = store::count_to_complete(&ctx.for_process().pg, caller.user_id, i64::try_from(max).unwrap_or(i64::MAX)).await?;
    if !caller.sees_all() && usize::try_from(n_open).is_ok_and(|n_open| n_open >= max) {
        let detail = format!("One user may have {max} batches that are not complete.");
        return Err(Error::new(Code::Conflict, detail));
    }
    Ok(())
}

pub async fn get(ctx: &Context, caller: &Caller, id: BatchId) -> Result<Batch> {
    caller.require(Scope::JobsRead)?;
    let batch = store::by_id(&ctx.pg, id, caller.owner_filter()).await?.ok_or_else(not_found)?;
    Ok(with_running(ctx, vec![batch]).await?.remove(0))
}

/// Newest first.
pub async fn list(ctx: &Context, caller: &Caller, request: &PageRequest) -> Result<Page<Batch>> {
    caller.require(Scope::JobsRead)?;
    let batches = store::page(ctx.by_values(), caller.owner_filter(), request).await?;
    let batches = with_running(ctx, batches).await?;
    Ok(Page::from_rows(batches, request, |batch| batch.id.0))
}

/// Tells running jobs from those that are to be done: Redis knows.
async fn with_running(ctx: &Context, mut batches: Vec<Batch>) -> Result<Vec<Batch>> {
    let open = batches.iter().filter(|batch| batch.counts.pending > 0).map(|batch| batch.id.0).collect::<Vec<Uuid>>();
    if open.is_empty() {
        return Ok(batches);
    }
    let running = race::running_ids(ctx, None).await.unwrap_or_default();
    for (id, n_running) in store::count_members(&ctx.pg, &open, &running).await? {
        if let Some(BatchCounts { pending, running, .. }) = batches.iter_mut().find(|batch| batch.id == id).map(|batch| &mut batch.counts) {
            *running = n_running.min(*pending);
            *pending -= *running;
        }
    }
    Ok(batches)
}

/// Takes no more jobs; one that is closed stays so. When all it has have ended, it is complete.
pub async fn close(ctx: &Context, caller: &Caller, id: BatchId) -> Result<Batch> {
    caller.require(Scope::JobsWrite)?;
    let mut tx = ctx.pg.begin().await?;
    let batch = store::close(&mut tx, id, caller.owner_filter()).await?.ok_or_else(not_found)?;
    tx.commit().await?;
    aftermath::note(ctx, batch.completed_at.is_none().then_some((false, Some(id))));
    get(ctx, caller, id).await
}

/// Closes a batch and cancels what is to be done of it. What runs is told to stop; all wishes are committed when this returns, and what
/// is not carried out then the reconciler does.
pub async fn cancel(ctx: &Context, caller: &Caller, id: BatchId, origin: &accounts::Origin) -> Result<Batch> {
    close(ctx, caller, id).await?;
    let began = Instant::now();
    let (mut after, mut n_jobs) = (Uuid::nil(), 0);
    loop {
        let live = store::live_jobs(&ctx.pg, id, after, STEP).await?;
        let Some((last, ..)) = live.last() else { break };
        after = last.0;
        n_jobs += live.len();
        let waiting = live.iter().filter(|(_, _, is_waiting)| *is_waiting).map(|(id, ..)| id.0).collect::<Vec<_>>();
        let mut over = Default::default();
        if !waiting.is_empty() {
            over = dependencies::cancel_all_waiting(ctx, &waiting).await?;
        }
        let others = live.into_iter().filter(|(id, ..)| !over.contains(id)).map(|(id, queue, _)| (id, queue)).collect::<Vec<_>>();
        cancel_others(ctx, &others, began).await?;
    }
    let deed = Deed::by(caller, Action::BatchCancelled, Subject::Batch(id), origin).with(json!({ "jobs": n_jobs }));
    audit::record(&ctx.pg, ctx.clock.now(), deed).await?;
    get(ctx, caller, id).await
}

async fn cancel_others(ctx: &Context, jobs: &[(JobId, QueueName)], began: Instant) -> Result<()> {
    cancel::request(&mut *ctx.pg.acquire().await?, jobs, ctx.clock.now()).await?;
    let cancels = jobs.iter().filter(|_| began.elapsed() < PATIENCE).map(|(id, queue)| cancel::carry_out(ctx, queue, *id));
    stream::iter(cancels).buffer_unordered(CANCELS_AT_ONCE).collect::<()>().await;
    Ok(())
}

impl Batch {
    pub(super) fn state_of(closed: bool, is_completed: bool) -> BatchState {
        match (is_completed, closed) {
            (true, _) => BatchState::Completed,
            (false, true) => BatchState::Running,
            (false, false) => BatchState::Open,
        }
    }
}

fn not_found() -> Error {
    Error::not_found("batch")
}
