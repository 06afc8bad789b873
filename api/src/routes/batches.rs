//! Batches: jobs that are counted together.

use crate::{
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Id, Meta, Query, answer_with_etag},
    idempotency::{self, Creation, OptionalKey},
    openapi::headers::{IdempotencyKeyHeader, IfNoneMatchHeader},
    routes::{BASE, jobs},
    state::AppState,
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use shared::{
    Error, Result,
    idempotency::{Attempt, StoredAnswer},
    ids::BatchId,
    jobs::batches::{Batch, MadeBatch, NewBatch, operations},
    page::{IdPageQuery, Page},
};

/// Makes a batch: with all its `jobs` or not at all, or open for jobs that name it by `batch_id`.
#[utoipa::path(post, path = "/api/v1/batches", tag = "batches", operation_id = "create_batch", request_body = NewBatch,
    params(IdempotencyKeyHeader), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 201, description = "The batch", body = MadeBatch, headers(("Location" = String, description = "The batch"))),
        (status = 409, description = "The caller has as many as one may have, or the first request is still running",
            body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn create_batch(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    OptionalKey(key): OptionalKey,
    body: Body<NewBatch>,
) -> ApiResult {
    let ctx = &state.ctx;
    let attempt = key.map(|key| Attempt::new(caller.user_id, "POST /batches", key, &body.bytes));
    let creation = idempotency::create(ctx, attempt.as_ref(), async |tx| {
        let made = operations::create(ctx, tx, &caller, body.value, &jobs::origin(meta)).await?;
        Ok((created(&made.answer)?, made))
    });
    match creation.await? {
        Creation::Fresh(stored, made) => {
            operations::announce(ctx, &made).await;
            idempotency::answer(&stored, false)
        }
        Creation::Replayed(stored) => idempotency::answer(&stored, true),
    }
}

fn created(made: &MadeBatch) -> Result<StoredAnswer> {
    let body = serde_json::to_vec(made).map_err(Error::internal)?;
    Ok(StoredAnswer { status: 201, location: Some(format!("{BASE}/batches/{}", made.batch.id)), body })
}

/// The caller's batches, newest first; operators see all.
#[utoipa::path(get, path = "/api/v1/batches", tag = "batches", operation_id = "list_batches", params(IdPageQuery),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of batches", body = Page<Batch>)))]
pub async fn list_batches(state: Data<AppState>, CallerOf(caller): CallerOf, Query(page): Query<IdPageQuery>) -> ApiResult {
    let page = page.parse()?;
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| operations::list(ctx, &caller, &page).await).await?))
}

/// One batch, and where its jobs are.
#[utoipa::path(get, path = "/api/v1/batches/{id}", tag = "batches", operation_id = "get_batch",
    params(("id" = BatchId, Path), IfNoneMatchHeader), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The batch", body = Batch), (status = 304, description = "Unchanged since `If-None-Match`")))]
pub async fn get_batch(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<BatchId>, request: HttpRequest) -> ApiResult {
    answer_with_etag(&request, &operations::get(&state.ctx, &caller, id).await?)
}

/// Closes a batch: it takes no more jobs, and is complete when all it has have ended. Repeating it does no harm.
#[utoipa::path(post, path = "/api/v1/batches/{id}/close", tag = "batches", operation_id = "close_batch", params(("id" = BatchId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The closed batch", body = Batch)))]
pub async fn close_batch(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<BatchId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(operations::close(&state.ctx, &caller, id).await?))
}

/// Closes a batch and cancels all its jobs that have not ended; those that run are told to stop. `on_complete` is submitted all the same.
#[utoipa::path(post, path = "/api/v1/batches/{id}/cancel", tag = "batches", operation_id = "cancel_batch", params(("id" = BatchId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The batch; of a large one some jobs may still be cancelled after the answer", body = Batch)))]
pub async fn cancel_batch(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<BatchId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(operations::cancel(&state.ctx, &caller, id, &meta.into()).await?))
}
