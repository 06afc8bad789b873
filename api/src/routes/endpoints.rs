//! Endpoints: receivers that jobs are delivered to.

use crate::{
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Id, Meta, Query, answer_with_etag_of, check_if_match},
    idempotency::{self, Creation, OptionalKey},
    openapi::headers::{IdempotencyKeyHeader, IfMatchHeader},
    state::AppState,
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use shared::{
    Error, Result,
    accounts::Origin,
    endpoints::{
        Endpoint,
        input::{NewEndpoint, PatchEndpoint},
        manage::{self, Trial},
    },
    idempotency::{Attempt, StoredAnswer},
    ids::EndpointId,
    page::{IdPageQuery, Page},
};

/// Makes an endpoint. This answer alone has `secret`; a repeated request gets the record without it.
#[utoipa::path(post, path = "/api/v1/endpoints", tag = "endpoints", operation_id = "create_endpoint", request_body = NewEndpoint,
    params(IdempotencyKeyHeader), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 201, description = "The endpoint", body = Endpoint),
        (status = 409, description = "There are as many endpoints as there may be, or the first request is still running",
            body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn create_endpoint(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    OptionalKey(key): OptionalKey,
    body: Body<NewEndpoint>,
) -> ApiResult {
    let (ctx, origin) = (&state.ctx, Origin::from(meta));
    let checked = manage::check(ctx, &caller, &body.value).await;
    let Some(key) = key else {
        let checked = checked?;
        let mut tx = ctx.pg.begin().await?;
        let made = manage::create(ctx, &mut tx, &caller, checked, &origin).await?;
        tx.commit().await?;
        return Ok(HttpResponse::Created().json(made));
    };
    let attempt = Attempt::new(caller.user_id, "POST /endpoints", key, &body.bytes);
    // A repeated request gets the first answer, whatever the name leads to now.
    let creation = idempotency::create_once(ctx, &attempt, async |tx| {
        let made = manage::create(ctx, tx, &caller, checked?, &origin).await?;
        Ok((without_secret(&made)?, made))
    });
    match creation.await? {
        Creation::Fresh(_, made) => Ok(HttpResponse::Created().json(made)),
        Creation::Replayed(stored) => idempotency::answer(&stored, true),
    }
}

/// What is kept of the answer: the secret is not.
fn without_secret(made: &Endpoint) -> Result<StoredAnswer> {
    let record = Endpoint { secret: None, ..made.clone() };
    Ok(StoredAnswer { status: 201, location: None, body: serde_json::to_vec(&record).map_err(Error::internal)? })
}

/// The caller's endpoints, newest first; operators see all.
#[utoipa::path(get, path = "/api/v1/endpoints", tag = "endpoints", operation_id = "list_endpoints", params(IdPageQuery),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of endpoints", body = Page<Endpoint>)))]
pub async fn list_endpoints(state: Data<AppState>, CallerOf(caller): CallerOf, Query(page): Query<IdPageQuery>) -> ApiResult {
    let page = page.parse()?;
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| manage::list(ctx, &caller, &page).await).await?))
}

/// One endpoint, and how its circuit breaker stands. The `ETag` names the settings alone.
#[utoipa::path(get, path = "/api/v1/endpoints/{id}", tag = "endpoints", operation_id = "get_endpoint", params(("id" = EndpointId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The endpoint", body = Endpoint, headers(("ETag" = String, description = "Names the settings")))))]
pub async fn get_endpoint(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<EndpointId>) -> ApiResult {
    let endpoint = manage::get(&state.ctx, &caller, id).await?;
    answer_with_etag_of(&endpoint, &endpoint.settings)
}

/// Changes an endpoint; a new URL closes its circuit breaker.
#[utoipa::path(patch, path = "/api/v1/endpoints/{id}", tag = "endpoints", operation_id = "update_endpoint",
    params(("id" = EndpointId, Path), IfMatchHeader), request_body = PatchEndpoint, security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "The endpoint as it is now", body = Endpoint),
        (status = 412, description = "Its settings are no longer those that `If-Match` names", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn update_endpoint(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    Id(id): Id<EndpointId>,
    request: HttpRequest,
    body: Body<PatchEndpoint>,
) -> ApiResult {
    let endpoint =
        manage::update(&state.ctx, &caller, id, &body.value, |settings| check_if_match(&request, settings), &meta.into()).await?;
    answer_with_etag_of(&endpoint, &endpoint.settings)
}

/// Deletes an endpoint. Jobs that were to go there are dead when their turn comes.
#[utoipa::path(delete, path = "/api/v1/endpoints/{id}", tag = "endpoints", operation_id = "delete_endpoint",
    params(("id" = EndpointId, Path)), security(("bearer" = []), ("api_key" = [])),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_endpoint(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<EndpointId>) -> ApiResult {
    manage::delete(&state.ctx, &caller, id, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Delivers a trial message at once, whatever the endpoint's state.
#[utoipa::path(post, path = "/api/v1/endpoints/{id}/test", tag = "endpoints", operation_id = "test_endpoint",
    params(("id" = EndpointId, Path)), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "What came of it", body = Trial)))]
pub async fn test_endpoint(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<EndpointId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(manage::test(&state.ctx, &caller, id).await?))
}

/// Gives an endpoint a new secret, which this answer alone has. The old one signs too for a day.
#[utoipa::path(post, path = "/api/v1/endpoints/{id}/rotate-secret", tag = "endpoints", operation_id = "rotate_endpoint_secret",
    params(("id" = EndpointId, Path)), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The endpoint with its new secret", body = Endpoint)))]
pub async fn rotate_endpoint_secret(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<EndpointId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(manage::rotate(&state.ctx, &caller, id, &meta.into()).await?))
}

/// Delivers nothing to an endpoint for now: its jobs wait, and use no attempt.
#[utoipa::path(post, path = "/api/v1/endpoints/{id}/pause", tag = "endpoints", operation_id = "pause_endpoint",
    params(("id" = EndpointId, Path)), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The endpoint", body = Endpoint)))]
pub async fn pause_endpoint(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<EndpointId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(manage::pause(&state.ctx, &caller, id, &meta.into()).await?))
}

/// Delivers to an endpoint again that was paused, or disabled since it said that it was gone. Closes its circuit breaker.
#[utoipa::path(post, path = "/api/v1/endpoints/{id}/resume", tag = "endpoints", operation_id = "resume_endpoint",
    params(("id" = EndpointId, Path)), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The endpoint", body = Endpoint)))]
pub async fn resume_endpoint(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<EndpointId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(manage::resume(&state.ctx, &caller, id, &meta.into()).await?))
}
