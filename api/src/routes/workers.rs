//! Workers as they report themselves.

use crate::{
    error::ApiResult,
    extract::{CallerOf, Id, Query},
    state::AppState,
};
use actix_web::{HttpResponse, web::Data};
use shared::{
    ids::WorkerId,
    jobs::workers::{self, Worker, WorkerDetail},
    page::{IdPageQuery, Page},
};

/// The workers that were heard of in the last minutes.
#[utoipa::path(get, path = "/api/v1/workers", tag = "workers", operation_id = "list_workers", params(IdPageQuery),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of workers", body = Page<Worker>)))]
pub async fn list_workers(state: Data<AppState>, CallerOf(caller): CallerOf, Query(page): Query<IdPageQuery>) -> ApiResult {
    Ok(HttpResponse::Ok().json(workers::list(&state.ctx, &caller, &page.parse()?).await?))
}

/// One worker, with the jobs it runs and holds.
#[utoipa::path(get, path = "/api/v1/workers/{id}", tag = "workers", operation_id = "get_worker", params(("id" = WorkerId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The worker", body = WorkerDetail)))]
pub async fn get_worker(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<WorkerId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(workers::get(&state.ctx, &caller, id).await?))
}
