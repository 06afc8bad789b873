//! Schedules: jobs that are submitted again and again.

use crate::{
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Id, Meta, Query, answer_with_etag_of, check_if_match},
    idempotency::{self, Creation, OptionalKey},
    openapi::headers::{IdempotencyKeyHeader, IfMatchHeader},
    routes::{BASE, jobs},
    state::AppState,
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use shared::{
    Error, Result,
    idempotency::{Attempt, StoredAnswer},
    ids::ScheduleId,
    jobs::Job,
    page::{IdPageQuery, Page},
    schedules::{
        NewSchedule, NextQuery, PatchSchedule, Schedule, fire,
        operations::{self, Occurrences},
    },
};

/// Makes a schedule. What could not be submitted is refused now, and so is an expression that names no time that ever comes.
#[utoipa::path(post, path = "/api/v1/schedules", tag = "schedules", operation_id = "create_schedule", request_body = NewSchedule,
    params(IdempotencyKeyHeader), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 201, description = "The schedule", body = Schedule, headers(("Location" = String, description = "The schedule"))),
        (status = 409, description = "There is one of that name, there are as many as there may be, or the first request is still running",
            body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn create_schedule(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    OptionalKey(key): OptionalKey,
    body: Body<NewSchedule>,
) -> ApiResult {
    let ctx = &state.ctx;
    let attempt = key.map(|key| Attempt::new(caller.user_id, "POST /schedules", key, &body.bytes));
    let creation =
        idempotency::create(ctx, attempt.as_ref(), async |tx| Ok((created(&operations::create(ctx, tx, &caller, body.value).await?)?, ())));
    match creation.await? {
        Creation::Fresh(stored, ()) => {
            operations::ring(ctx).await;
            idempotency::answer(&stored, false)
        }
        Creation::Replayed(stored) => idempotency::answer(&stored, true),
    }
}

fn created(schedule: &Schedule) -> Result<StoredAnswer> {
    let body = serde_json::to_vec(schedule).map_err(Error::internal)?;
    Ok(StoredAnswer { status: 201, location: Some(format!("{BASE}/schedules/{}", schedule.id)), body })
}

/// The caller's schedules, newest first; operators see all. A page of large ones may be shorter and still have a next one.
#[utoipa::path(get, path = "/api/v1/schedules", tag = "schedules", operation_id = "list_schedules", params(IdPageQuery),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of schedules", body = Page<Schedule>)))]
pub async fn list_schedules(state: Data<AppState>, CallerOf(caller): CallerOf, Query(page): Query<IdPageQuery>) -> ApiResult {
    let page = page.parse()?;
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| operations::list(ctx, &caller, &page).await).await?))
}

/// One schedule. Its `ETag` names the settings alone, for `If-Match`.
#[utoipa::path(get, path = "/api/v1/schedules/{id}", tag = "schedules", operation_id = "get_schedule", params(("id" = ScheduleId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The schedule", body = Schedule, headers(("ETag" = String, description = "Names the settings")))))]
pub async fn get_schedule(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<ScheduleId>) -> ApiResult {
    let schedule = operations::get(&state.ctx, &caller, id).await?;
    answer_with_etag_of(&schedule, &schedule.settings())
}

/// Changes a schedule. With another `cron`, `every_ms` or `timezone` it fires by that from now on.
#[utoipa::path(patch, path = "/api/v1/schedules/{id}", tag = "schedules", operation_id = "update_schedule",
    params(("id" = ScheduleId, Path), IfMatchHeader), request_body = PatchSchedule, security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "The schedule as it is now", body = Schedule),
        (status = 409, description = "There is another one of that name", body = Problem<'static>, content_type = "application/problem+json"),
        (status = 412, description = "Its settings are no longer those that `If-Match` names", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn update_schedule(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    Id(id): Id<ScheduleId>,
    request: HttpRequest,
    body: Body<PatchSchedule>,
) -> ApiResult {
    let allow = |schedule: &Schedule| check_if_match(&request, &schedule.settings());
    let schedule = operations::update(&state.ctx, &caller, id, body.value, allow).await?;
    answer_with_etag_of(&schedule, &schedule.settings())
}

/// Deletes a schedule. The jobs that came of it stay.
#[utoipa::path(delete, path = "/api/v1/schedules/{id}", tag = "schedules", operation_id = "delete_schedule",
    params(("id" = ScheduleId, Path)), security(("bearer" = []), ("api_key" = [])),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_schedule(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<ScheduleId>) -> ApiResult {
    operations::delete(&state.ctx, &caller, id, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Stops a schedule from firing.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/pause", tag = "schedules", operation_id = "pause_schedule",
    params(("id" = ScheduleId, Path)), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The paused schedule", body = Schedule)))]
pub async fn pause_schedule(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<ScheduleId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(operations::pause(&state.ctx, &caller, id).await?))
}

/// Lets a schedule fire again, from now on.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/resume", tag = "schedules", operation_id = "resume_schedule",
    params(("id" = ScheduleId, Path)), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The resumed schedule", body = Schedule)))]
pub async fn resume_schedule(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<ScheduleId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(operations::resume(&state.ctx, &caller, id).await?))
}

/// Submits a job of the schedule now, paused or not. Its occurrences stay as they are.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/trigger", tag = "schedules", operation_id = "trigger_schedule",
    params(("id" = ScheduleId, Path), IdempotencyKeyHeader), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 202, description = "Accepted: the job will run", body = Job, headers(("Location" = String, description = "The job"))),
        (status = 409, description = "Its `overlap` is `skip`, and a job of it is still to be done; or the first request is still running",
            body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn trigger_schedule(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    OptionalKey(key): OptionalKey,
    Id(id): Id<ScheduleId>,
) -> ApiResult {
    let ctx = &state.ctx;
    let attempt = key.map(|key| Attempt::new(caller.user_id, "POST /schedules/{id}/trigger", key, id.to_string().as_bytes()));
    let creation = idempotency::create(ctx, attempt.as_ref(), async |tx| {
        let made = fire::trigger(ctx, tx, &caller, id).await?;
        Ok((jobs::stored(&made.job)?, made))
    });
    match creation.await? {
        Creation::Fresh(stored, made) => {
            fire::announce(ctx, &made).await;
            idempotency::answer(&stored, false)
        }
        Creation::Replayed(stored) => idempotency::answer(&stored, true),
    }
}

/// When a schedule fires next; a paused one as if it were resumed now.
#[utoipa::path(get, path = "/api/v1/schedules/{id}/next", tag = "schedules", operation_id = "list_schedule_occurrences",
    params(("id" = ScheduleId, Path), NextQuery), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The occurrences to come", body = Occurrences)))]
pub async fn list_schedule_occurrences(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    Id(id): Id<ScheduleId>,
    Query(query): Query<NextQuery>,
) -> ApiResult {
    Ok(HttpResponse::Ok().json(operations::next(&state.ctx, &caller, id, &query).await?))
}
