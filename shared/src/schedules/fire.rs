//! What the leader does with schedules that are due, and triggering one by hand.
//!
//! One transaction per occurrence: it is taken under its key, its job is written as any submit is, and the schedule moves on. The
//! jobs are durable whatever their queue's durability is; Redis alone could not hold them to that transaction.

use super::{Overlap, Schedule, input::submit_of, rule::CatchUp, store};
use crate::{
    Caller, Code, Context, Error, Result, Role, Scope,
    caller::Credential,
    endpoints::target,
    ids::{JobId, ScheduleId, UserId},
    jobs::{Job, JobError, NewJob, Origin, QueueName, cancel, kinds, queues::Durability, submit},
    telemetry::metrics,
};
use futures_util::StreamExt;
use sqlx::{PgConnection, Postgres, Transaction};
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// Schedules that one statement tells.
const PAGE: i64 = 100;
/// Jobs of a schedule that are looked for, and cancelled, when it fires again.
const LIVE_MAX: i64 = 100;
/// How long occurrences are remembered; no leader comes back to one after so long.
const REMEMBERED: time::Duration = time::Duration::days(1);

/// How a pass over what is due went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// When the next schedule is due.
    pub next_due: Option<OffsetDateTime>,
    /// Schedules that could not be dealt with and stay due.
    pub n_failed: usize,
}

/// What became of an occurrence.
#[derive(Debug)]
enum Fired {
    Submitted(Box<Made>),
    /// A job of the schedule is still to be done.
    Skipped,
    /// The submit was refused, for a reason that the schedule shows.
    Refused,
    /// It came too late, or another leader was first.
    Nothing,
}

/// A job to be announced, and those to be cancelled for it, once all that is committed.
#[derive(Debug)]
pub struct Made {
    pub job: Job,
    new_job: Option<NewJob>,
    replaced: Vec<(JobId, QueueName)>,
}

/// Fires every schedule that is due; one that fails does not keep the others.
pub async fn fire_due(ctx: &Context) -> Result<Pass> {
    let (mut last, mut n_failed) = (None, 0);
    loop {
        let due = store::due(&ctx.pg, ctx.clock.now(), last, PAGE).await?;
        for (_, id) in &due {
            if let Err(error) = fire(ctx, *id).await {
                n_failed += 1;
                tracing::warn!(%error, schedule_id = %id, "a schedule could not fire; it is tried again");
            }
        }
        last = due.last().copied();
        if due.len() < usize::try_from(PAGE).unwrap_or(0) {
            break;
        }
    }
    Ok(Pass { next_due: store::next_due(&ctx.pg).await?, n_failed })
}

async fn fire(ctx: &Context, id: ScheduleId) -> Result<()> {
    let mut tx = ctx.pg.begin().await?;
    let now = ctx.clock.now();
    let Some(schedule) = store::lock(&mut tx, id, None).await? else { return Ok(()) };
    let Some(due) = schedule.next_run_at.filter(|due| *due <= now) else { return Ok(()) };
    let turn = match schedule.rule(now) {
        Ok(rule) => rule.turn(due, now, catch_up(ctx, &schedule)),
        Err(error) => return stop(tx, &schedule, due, error).await,
    };
    let fired = match turn.fire_at {
        Some(fire_at) => submit_occurrence(ctx, &mut tx, &schedule, fire_at).await?,
        None => Fired::Nothing,
    };
    store::move_on(&mut tx, id, turn.next_run_at).await?;
    tx.commit().await?;
    let outcome = match fired {
        Fired::Submitted(made) => {
            announce(ctx, &made).await;
            "submitted"
        }
        Fired::Skipped => "skipped",
        Fired::Refused => "refused",
        Fired::Nothing => "missed",
    };
    ::metrics::counter!(metrics::SCHEDULE_RUNS, "outcome" => outcome).increment(1);
    ::metrics::histogram!(metrics::SCHEDULE_LATE).record((ctx.clock.now() - turn.fire_at.unwrap_or(due)).as_seconds_f64());
    Ok(())
}

/// A rule that was good once and is not now: its time zone is gone from the database of zones. It fires again once it is changed.
async fn stop(mut tx: Transaction<'_, Postgres>, schedule: &Schedule, due: OffsetDateTime, error: Error) -> Result<()> {
    tracing::warn!(%error, schedule_id = %schedule.id, "a schedule fires no more until it is changed");
    store::note_refusal(&mut tx, schedule.id, due, &shown(error)).await?;
    store::move_on(&mut tx, schedule.id, None).await?;
    Ok(tx.commit().await?)
}

fn shown(error: Error) -> JobError {
    JobError { code: error.code.as_str().to_owned(), message: error.detail.into_owned() }
}

fn catch_up(ctx: &Context, schedule: &Schedule) -> CatchUp {
    let late_max = time::Duration::seconds(i64::from(ctx.settings().schedule_late_max_s));
    if schedule.catch_up { CatchUp::All } else { CatchUp::Late(late_max) }
}

async fn submit_occurrence(ctx: &Context, tx: &mut PgConnection, schedule: &Schedule, fire_at: OffsetDateTime) -> Result<Fired> {
    if !store::take_occurrence(tx, schedule.id, fire_at).await? {
        return Ok(Fired::Nothing);
    }
    match make(ctx, tx, schedule, fire_at).await {
        Ok(Some(made)) => Ok(Fired::Submitted(Box::new(made))),
        Ok(None) => Ok(Fired::Skipped),
        Err(error) if error.is_refusal() => {
            tracing::warn!(%error, schedule_id = %schedule.id, "an occurrence of a schedule was refused");
            store::note_refusal(tx, schedule.id, fire_at, &shown(error)).await?;
            Ok(Fired::Refused)
        }
        Err(error) => Err(error),
    }
}

/// Writes the job of an occurrence that is taken; `None` where that is left out for one that is still to be done.
async fn make(ctx: &Context, tx: &mut PgConnection, schedule: &Schedule, fire_at: OffsetDateTime) -> Result<Option<Made>> {
    let mut live = match schedule.overlap {
        Overlap::Allow => Vec::new(),
        Overlap::Skip | Overlap::CancelOld => store::live_jobs(tx, schedule.id, LIVE_MAX).await?,
    };
    if schedule.overlap == Overlap::Skip && !live.is_empty() {
        return Ok(None);
    }
    let caller = owner(tx, schedule).await?;
    let job = Box::pin(submit::prepare(&ctx.for_process(), &caller, submit_of(schedule), Origin::default())).await?;
    let target = target::given_earlier(job.target, schedule.target_origin.as_deref())?;
    let (job, new_job) = Box::pin(submit::submit_in(ctx, tx, NewJob { durability: Durability::Postgres, target, ..job })).await?;
    // Where `unique` found the job that is there already, that one is the occurrence's own.
    live.retain(|(id, _)| *id != job.id);
    cancel::request(tx, &live, ctx.clock.now()).await?;
    store::note_job(tx, schedule.id, fire_at, job.id).await?;
    Ok(Some(Made { job, new_job, replaced: live }))
}

/// In whose name a schedule submits, with what they may now.
async fn owner(tx: &mut PgConnection, schedule: &Schedule) -> Result<Caller> {
    let credential = Credential::Schedule(schedule.id);
    let Some(id) = schedule.owner_id else {
        return Ok(Caller::new(UserId(Uuid::nil()), Role::Operator, Role::Operator.scopes(), credential));
    };
    match store::owner(tx, id).await? {
        Some((role, false)) => Ok(Caller::new(id, role, role.scopes(), credential)),
        Some((_, true)) | None => Err(Error::new(Code::Forbidden, "The owner of the schedule cannot sign in.")),
    }
}

/// Submits a job of a schedule now, in the caller's transaction, whether or not it is paused; [`announce`] it after the commit.
/// Its other occurrences stay as they are. 409 where the schedule skips and a job of it is still to be done.
pub async fn trigger(ctx: &Context, tx: &mut PgConnection, caller: &Caller, id: ScheduleId) -> Result<Made> {
    caller.require(Scope::JobsWrite)?;
    let schedule = store::lock(tx, id, caller.owner_filter()).await?.ok_or_else(|| Error::not_found("schedule"))?;
    kinds::admit_again(&schedule.kind, caller, ctx.settings().profile, Some(&schedule.payload))?;
    let now = ctx.clock.now();
    if !store::take_occurrence(tx, id, now).await? {
        return Err(Error::new(Code::Conflict, "The schedule fires at this very moment."));
    }
    let made = make(ctx, tx, &schedule, now).await?;
    made.ok_or_else(|| Error::new(Code::Conflict, "A job of the schedule is still to be done, and its `overlap` is `skip`."))
}

/// Brings a committed job before the workers, and ends those that it replaces.
pub async fn announce(ctx: &Context, made: &Made) {
    if let Some(new_job) = &made.new_job {
        submit::announce(ctx, &[new_job]).await;
    }
    for (id, queue) in &made.replaced {
        cancel::carry_out(ctx, queue, *id).await;
    }
}

/// Tells the leader to look again.
pub(super) async fn ring(ctx: &Context) {
    let mut cmd = redis::cmd("PUBLISH");
    cmd.arg(ctx.keys.schedules()).arg("");
    if let Err(error) = cmd.exec_async(&mut ctx.redis.connection()).await {
        tracing::debug!(%error, "the leader will find the changed schedule by looking");
    }
}

/// Calls `ring` whenever a schedule may be due earlier than it was, for as long as it is polled; polls cover what was missed.
pub async fn listen(ctx: &Context, ring: impl Fn()) {
    loop {
        if let Err(error) = listen_once(ctx, &ring).await {
            tracing::debug!(%error, "changed schedules are not heard of");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn listen_once(ctx: &Context, ring: &impl Fn()) -> Result<()> {
    let mut pubsub = ctx.redis.pubsub().await?;
    pubsub.subscribe(ctx.keys.schedules()).await?;
    // One may have changed before we listened.
    ring();
    let mut messages = pubsub.on_message();
    while messages.next().await.is_some() {
        ring();
    }
    Ok(())
}

/// Forgets occurrences that no leader can come back to, at most `limit`; returns how many.
pub async fn prune(ctx: &Context, limit: i64) -> Result<u64> {
    store::forget_runs(&ctx.pg, ctx.clock.now() - REMEMBERED, limit).await
}
