//! Workers as they report themselves.

use crate::{
    error::ApiResult,
    extract::{CallerOf, Id, Meta, Query},
    state::AppState,
};
use actix_web::{HttpResponse, web::Data};
use shared::{
    Caller,
    ids::WorkerId,
    jobs::{
        worker_orders::{self, WorkerOrder},
        workers::{self, Worker, WorkerDetail},
    },
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

/// Has a worker lease nothing more; what it has leased runs. It hears within two seconds, and shows the state `quiet` then.
#[utoipa::path(post, path = "/api/v1/workers/{id}/quiet", tag = "workers", operation_id = "quiet_worker", params(("id" = WorkerId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 202, description = "The worker as it was; it is told", body = Worker)))]
pub async fn quiet_worker(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<WorkerId>) -> ApiResult {
    tell(&state, &caller, meta, id, WorkerOrder::Quiet).await
}

/// Has a quiet worker lease again.
#[utoipa::path(post, path = "/api/v1/workers/{id}/resume", tag = "workers", operation_id = "resume_worker", params(("id" = WorkerId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 202, description = "The worker as it was; it is told", body = Worker)))]
pub async fn resume_worker(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<WorkerId>) -> ApiResult {
    tell(&state, &caller, meta, id, WorkerOrder::Resume).await
}

/// Has a worker hand back what has not started, finish what runs within its grace, and end. Whatever runs it may start it again.
#[utoipa::path(post, path = "/api/v1/workers/{id}/stop", tag = "workers", operation_id = "stop_worker", params(("id" = WorkerId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 202, description = "The worker as it was; it is told", body = Worker)))]
pub async fn stop_worker(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<WorkerId>) -> ApiResult {
    tell(&state, &caller, meta, id, WorkerOrder::Stop).await
}

async fn tell(state: &AppState, caller: &Caller, meta: Meta, id: WorkerId, order: WorkerOrder) -> ApiResult {
    Ok(HttpResponse::Accepted().json(worker_orders::tell(&state.ctx, caller, id, order, &meta.into()).await?))
}
