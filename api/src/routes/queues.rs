//! Queues: how they stand and are set, and what operators do to them.

use crate::{
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Id, Meta, Query, answer_with_etag_of, check_if_match},
    openapi::headers::IfMatchHeader,
    state::AppState,
};
use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use shared::{
    Code, Error,
    jobs::{
        QueueName,
        queues::{self, DeadLetters, ListDead, PatchQueue, Purge, Purged, Queue, QueueSettings, Removed, Requeued, SelectDead},
    },
    page::{Page, PageQuery},
};

/// All queues by name, with how they stand.
#[utoipa::path(get, path = "/api/v1/queues", tag = "queues", operation_id = "list_queues", params(PageQuery),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of queues", body = Page<Queue>)))]
pub async fn list_queues(state: Data<AppState>, CallerOf(caller): CallerOf, Query(page): Query<PageQuery>) -> ApiResult {
    let page = page.parse()?;
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| queues::list(ctx, &caller, &page).await).await?))
}

/// One queue and how it stands. Its `ETag` names the settings alone, for `If-Match`.
#[utoipa::path(get, path = "/api/v1/queues/{queue}", tag = "queues", operation_id = "get_queue", params(("queue" = QueueName, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The queue", body = Queue, headers(("ETag" = String, description = "Names the settings")))))]
pub async fn get_queue(state: Data<AppState>, CallerOf(caller): CallerOf, Id(name): Id<QueueName>) -> ApiResult {
    let queue = queues::get(&state.ctx, &caller, &name).await?;
    answer_with_etag_of(&queue, &queue.settings)
}

/// Changes a queue's settings; one that nobody used yet comes to be.
#[utoipa::path(patch, path = "/api/v1/queues/{queue}", tag = "queues", operation_id = "update_queue",
    params(("queue" = QueueName, Path), IfMatchHeader),
    request_body = PatchQueue, security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "The queue as it is now", body = Queue),
        (status = 412, description = "Its settings are no longer those that `If-Match` names", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn update_queue(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    Id(name): Id<QueueName>,
    request: HttpRequest,
    body: Body<PatchQueue>,
) -> ApiResult {
    let allow = |settings: Option<&QueueSettings>| match settings {
        Some(settings) => check_if_match(&request, settings),
        None if request.headers().contains_key(header::IF_MATCH) => {
            Err(Error::new(Code::PreconditionFailed, "There is no such queue yet."))
        }
        None => Ok(()),
    };
    let queue = queues::update(&state.ctx, &caller, &name, &body.value, &meta.into(), allow).await?;
    answer_with_etag_of(&queue, &queue.settings)
}

/// Deletes a queue that has nothing to do. Its ended jobs stay readable, as long as a queue without settings keeps them; its next
/// job, if there is one, brings it back with defaults.
#[utoipa::path(delete, path = "/api/v1/queues/{queue}", tag = "queues", operation_id = "delete_queue",
    params(("queue" = QueueName, Path)), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It has jobs to do, or is `default`", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn delete_queue(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(name): Id<QueueName>) -> ApiResult {
    queues::delete(&state.ctx, &caller, &name, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Stops leasing from a queue; what runs goes on, and submits are still taken.
#[utoipa::path(post, path = "/api/v1/queues/{queue}/pause", tag = "queues", operation_id = "pause_queue",
    params(("queue" = QueueName, Path)), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The paused queue", body = Queue)))]
pub async fn pause_queue(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(name): Id<QueueName>) -> ApiResult {
    Ok(HttpResponse::Ok().json(queues::pause(&state.ctx, &caller, &name, &meta.into()).await?))
}

/// Leases from a paused queue again.
#[utoipa::path(post, path = "/api/v1/queues/{queue}/resume", tag = "queues", operation_id = "resume_queue",
    params(("queue" = QueueName, Path)), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The resumed queue", body = Queue)))]
pub async fn resume_queue(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(name): Id<QueueName>) -> ApiResult {
    Ok(HttpResponse::Ok().json(queues::resume(&state.ctx, &caller, &name, &meta.into()).await?))
}

/// Removes a queue's waiting jobs, or its jobs of one state.
#[utoipa::path(post, path = "/api/v1/queues/{queue}/purge", tag = "queues", operation_id = "purge_queue",
    params(("queue" = QueueName, Path)), request_body = Purge, security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "How many were removed", body = Purged)))]
pub async fn purge_queue(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    Id(name): Id<QueueName>,
    body: Body<Purge>,
) -> ApiResult {
    Ok(HttpResponse::Ok().json(queues::purge(&state.ctx, &caller, &name, &body.value, &meta.into()).await?))
}

/// Dead letters of a queue, the newest first, or by error with `group=error`.
#[utoipa::path(get, path = "/api/v1/queues/{queue}/dead", tag = "queues", operation_id = "list_dead_jobs",
    params(("queue" = QueueName, Path), ListDead), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of dead jobs, or of groups", body = DeadLetters)))]
pub async fn list_dead_jobs(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    Id(name): Id<QueueName>,
    Query(query): Query<ListDead>,
) -> ApiResult {
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| queues::list_dead(ctx, &caller, &name, &query).await).await?))
}

/// Runs dead jobs again, with the same ids and history: some, those of one error, or all.
#[utoipa::path(post, path = "/api/v1/queues/{queue}/dead/requeue", tag = "queues", operation_id = "requeue_dead_jobs",
    params(("queue" = QueueName, Path)), request_body = SelectDead, security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "How many are queued again", body = Requeued)))]
pub async fn requeue_dead_jobs(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    Id(name): Id<QueueName>,
    body: Body<SelectDead>,
) -> ApiResult {
    Ok(HttpResponse::Ok().json(queues::requeue_dead(&state.ctx, &caller, &name, &body.value, &meta.into()).await?))
}

/// Deletes dead jobs with their history: some, those of one error, or all.
#[utoipa::path(delete, path = "/api/v1/queues/{queue}/dead", tag = "queues", operation_id = "delete_dead_jobs",
    params(("queue" = QueueName, Path)), request_body = SelectDead, security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "How many were deleted", body = Removed)))]
pub async fn delete_dead_jobs(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    Id(name): Id<QueueName>,
    body: Body<SelectDead>,
) -> ApiResult {
    Ok(HttpResponse::Ok().json(queues::delete_dead(&state.ctx, &caller, &name, &body.value, &meta.into()).await?))
}
