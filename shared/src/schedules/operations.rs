//! What callers do to schedules: their own, and operators to all.

use super::{NewSchedule, NextQuery, PatchSchedule, Schedule, ScheduledJob, fire, input::submit_of, store};
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    accounts::{
        Origin,
        audit::{self, Action, Deed, Subject},
    },
    endpoints::target,
    ids::ScheduleId,
    jobs::{kinds, new_job, submit},
    page::{self, Page, PageRequest},
};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// Occurrences to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"items": ["2026-11-22T01:30:00Z", "2026-11-23T01:30:00Z"]}))]
pub struct Occurrences {
    #[schema(value_type = Vec<String>)]
    pub items: Vec<Instant>,
}

/// An instant on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Instant(#[serde(with = "time::serde::rfc3339")] pub OffsetDateTime);

/// Makes a schedule in the caller's transaction; [`ring`] after the commit.
pub async fn create(ctx: &Context, tx: &mut PgConnection, caller: &Caller, new: NewSchedule) -> Result<Schedule> {
    caller.require(Scope::JobsWrite)?;
    let now = ctx.clock.now();
    let rule = new.check(now)?;
    let paused = new.paused.unwrap_or(false);
    let mut schedule = Schedule {
        id: ScheduleId::new(),
        timezone: new.canonical_timezone()?,
        name: new.name,
        kind: new.kind,
        queue: new.queue.unwrap_or_else(|| "default".to_owned()),
        payload: new.payload.unwrap_or_else(|| RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")),
        job: new.job.unwrap_or_default().unmasked(&ScheduledJob::default())?,
        target_origin: None,
        cron: new.cron,
        every_ms: new.every_ms,
        overlap: new.overlap.unwrap_or_default(),
        catch_up: new.catch_up.unwrap_or(false),
        paused,
        next_run_at: if paused { None } else { rule.after(now, now) },
        last_run_at: None,
        last_job_id: None,
        last_error: None,
        owner_id: Some(caller.user_id),
        created_at: now,
    };
    schedule.target_origin = check_job(ctx, caller, &schedule).await?;
    refuse_too_many(ctx, tx, caller).await?;
    if store::insert(tx, &schedule).await? { Ok(schedule) } else { Err(name_taken()) }
}

pub async fn get(ctx: &Context, caller: &Caller, id: ScheduleId) -> Result<Schedule> {
    caller.require(Scope::JobsRead)?;
    store::by_id(&ctx.pg, id, caller.owner_filter()).await?.ok_or_else(not_found)
}

/// Newest first. A page of large ones may be shorter and still have a next one.
pub async fn list(ctx: &Context, caller: &Caller, request: &PageRequest) -> Result<Page<Schedule>> {
    caller.require(Scope::JobsRead)?;
    let look = |schedule: &Schedule| (schedule.id.0, serde_json::to_string(schedule).map_or(0, |text| text.len()));
    let read = async |below, limit| store::page(ctx.by_values(), caller.owner_filter(), below, limit).await;
    page::fill(request, ctx.settings().max_body_bytes.0, look, read).await
}

/// Changes a schedule. `allow` sees it as it is while nobody else can change it, and may refuse.
pub async fn update(
    ctx: &Context,
    caller: &Caller,
    id: ScheduleId,
    patch: PatchSchedule,
    allow: impl FnOnce(&Schedule) -> Result<()>,
) -> Result<Schedule> {
    caller.require(Scope::JobsWrite)?;
    let now = ctx.clock.now();
    let mut tx = ctx.pg.begin().await?;
    let mut schedule = store::lock(&mut tx, id, caller.owner_filter()).await?.ok_or_else(not_found)?;
    allow(&schedule)?;
    let changes_job = patch.kind.is_some() || patch.queue.is_some() || patch.payload.is_some() || patch.job.is_some();
    let target = patch.job.as_ref().map(|job| job.target.clone());
    if let Some(rule) = patch.apply(&mut schedule, now)? {
        schedule.next_run_at = rule.after(now, now);
    }
    if schedule.paused {
        schedule.next_run_at = None;
    }
    if changes_job {
        let origin = check_job(&ctx.for_process(), caller, &schedule).await?;
        schedule.target_origin = match target {
            None => schedule.target_origin,
            Some(None) => None,
            Some(Some(target)) => target.origin_after(origin, schedule.target_origin, "/job/target/headers")?,
        };
    } else if !schedule.paused {
        // What it submits it may be brought to submit sooner, or again.
        kinds::admit_again(&schedule.kind, caller, ctx.settings().profile, Some(&schedule.payload))?;
    }
    if !store::update(&mut tx, &schedule, now).await? {
        return Err(name_taken());
    }
    tx.commit().await?;
    ring(ctx).await;
    Ok(schedule)
}

/// Stops it from firing.
pub async fn pause(ctx: &Context, caller: &Caller, id: ScheduleId) -> Result<Schedule> {
    update(ctx, caller, id, PatchSchedule { paused: Some(true), ..PatchSchedule::default() }, |_| Ok(())).await
}

/// Lets it fire again, from now on: what would have fired meanwhile is not made up for.
pub async fn resume(ctx: &Context, caller: &Caller, id: ScheduleId) -> Result<Schedule> {
    update(ctx, caller, id, PatchSchedule { paused: Some(false), ..PatchSchedule::default() }, |_| Ok(())).await
}

/// Deletes a schedule. The jobs that came of it stay.
pub async fn delete(ctx: &Context, caller: &Caller, id: ScheduleId, origin: &Origin) -> Result<()> {
    caller.require(Scope::JobsWrite)?;
    let mut tx = ctx.pg.begin().await?;
    let schedule = store::lock(&mut tx, id, caller.owner_filter()).await?.ok_or_else(not_found)?;
    store::delete(&mut tx, id).await?;
    let deed = Deed::new(caller.user_id, Action::ScheduleDeleted, Subject::Schedule(id), origin);
    audit::record(&mut *tx, ctx.clock.now(), deed.with(serde_json::json!({ "name": schedule.name }))).await?;
    tx.commit().await?;
    Ok(())
}

/// The occurrences to come, of a paused schedule as if it were resumed now.
pub async fn next(ctx: &Context, caller: &Caller, id: ScheduleId, query: &NextQuery) -> Result<Occurrences> {
    let count = query.count()?;
    let schedule = get(ctx, caller, id).await?;
    let now = ctx.clock.now();
    let anchor = schedule.next_run_at.unwrap_or(now);
    let rule = schedule.rule(now)?;
    Ok(Occurrences { items: rule.occurrences(now, anchor).take(count).map(Instant).collect() })
}

/// Tells the leader that a schedule may be due earlier than it was; without it, the leader finds out by looking.
pub async fn ring(ctx: &Context) {
    fire::ring(ctx).await;
}

/// Refuses now what the schedule could not submit later; returns which origin alone the headers of its target are for.
async fn check_job(ctx: &Context, caller: &Caller, schedule: &Schedule) -> Result<Option<String>> {
    let submit = submit_of(schedule);
    let job = Box::pin(submit::prepare_unbounded(&ctx.for_process(), caller, submit, new_job::Origin::default())).await.map_err(in_job)?;
    target::origin_of(job.target.as_deref())
}

/// Fields that a schedule has in `job` are pointed at there.
fn in_job(mut error: Error) -> Error {
    const OF_THE_SCHEDULE: [&str; 3] = ["/kind", "/queue", "/payload"];
    for field in &mut error.fields {
        if !OF_THE_SCHEDULE.iter().any(|of| field.pointer.starts_with(of)) {
            field.pointer.insert_str(0, "/job");
        }
    }
    error
}

async fn refuse_too_many(ctx: &Context, tx: &mut PgConnection, caller: &Caller) -> Result<()> {
    let (all_max, own_max) = (ctx.settings().schedules_max, ctx.settings().schedules_per_user_max);
    store::lock_creation(tx).await?;
    let (all, own) = store::counts(tx, caller.user_id).await?;
    let is_full = |count: i64, max: usize| usize::try_from(count).is_ok_and(|count| count >= max);
    if is_full(all, all_max) || (!caller.sees_all() && is_full(own, own_max)) {
        let detail = format!("There may be {all_max} schedules, and {own_max} of one user who is no operator.");
        return Err(Error::new(Code::Conflict, detail));
    }
    Ok(())
}

fn name_taken() -> Error {
    Error::new(Code::Conflict, "There is a schedule of that name already.")
}

fn not_found() -> Error {
    Error::not_found("schedule")
}
