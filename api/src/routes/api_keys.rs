//! The caller's API keys.

use crate::{
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Id, Meta, Query},
    idempotency::{self, Creation, OptionalKey},
    openapi::headers::IdempotencyKeyHeader,
    state::AppState,
};
use actix_web::{HttpResponse, web::Data};
use shared::{
    Error, Result,
    accounts::{ApiKey, Origin, api_keys, input::NewApiKey},
    idempotency::{Attempt, StoredAnswer},
    ids::ApiKeyId,
    page::{IdPageQuery, Page},
};

/// Makes an API key. This answer alone has `key`; a repeated request gets the record without it.
#[utoipa::path(post, path = "/api/v1/api-keys", tag = "accounts", operation_id = "create_api_key", request_body = NewApiKey,
    params(IdempotencyKeyHeader),
    security(("bearer" = [])),
    responses(
        (status = 201, description = "The key", body = ApiKey),
        (status = 409, description = "There are as many keys as there may be, `expires_at` has passed, or the first request is still running",
            body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn create_api_key(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    OptionalKey(key): OptionalKey,
    body: Body<NewApiKey>,
) -> ApiResult {
    let (ctx, origin) = (&state.ctx, Origin::from(meta));
    let Some(key) = key else {
        let mut tx = ctx.pg.begin().await?;
        let made = api_keys::create_api_key(&state.accounts, &mut tx, &caller, &body.value, &origin).await?;
        tx.commit().await?;
        return Ok(HttpResponse::Created().json(made));
    };
    let attempt = Attempt::new(caller.user_id, "POST /api-keys", key, &body.bytes);
    let creation = idempotency::create_once(ctx, &attempt, async |tx| {
        let made = api_keys::create_api_key(&state.accounts, tx, &caller, &body.value, &origin).await?;
        Ok((without_secret(&made)?, made))
    });
    match creation.await? {
        Creation::Fresh(_, made) => Ok(HttpResponse::Created().json(made)),
        Creation::Replayed(stored) => idempotency::answer(&stored, true),
    }
}

/// What is kept of the answer: the secret is not.
fn without_secret(made: &ApiKey) -> Result<StoredAnswer> {
    let record = ApiKey { key: None, ..made.clone() };
    Ok(StoredAnswer { status: 201, location: None, body: serde_json::to_vec(&record).map_err(Error::internal)? })
}

/// The caller's API keys, newest first.
#[utoipa::path(get, path = "/api/v1/api-keys", tag = "accounts", operation_id = "list_api_keys", params(IdPageQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "Keys that are not revoked", body = Page<ApiKey>)))]
pub async fn list_api_keys(state: Data<AppState>, CallerOf(caller): CallerOf, Query(page): Query<IdPageQuery>) -> ApiResult {
    let page = api_keys::list_api_keys(&state.accounts, &caller, &page.parse()?).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// Revokes one of the caller's API keys.
#[utoipa::path(delete, path = "/api/v1/api-keys/{id}", tag = "accounts", operation_id = "revoke_api_key",
    params(("id" = ApiKeyId, Path)), security(("bearer" = [])),
    responses((status = 204, description = "The key is good for nothing")))]
pub async fn revoke_api_key(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<ApiKeyId>) -> ApiResult {
    api_keys::revoke_api_key(&state.accounts, &caller, id, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}
