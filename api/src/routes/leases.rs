//! What remote workers ask: a session, jobs to run, and to be heard about them.

use crate::{
    edge::RequestScope,
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, RawBody, parse_item},
    gate::require_unrevoked,
    idempotency::{self, Creation, OptionalKey},
    openapi::headers::IdempotencyKeyHeader,
    server::{has_left, left},
    state::AppState,
};
use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use serde_json::value::RawValue;
use shared::{
    Error,
    idempotency::{Attempt, StoredAnswer},
    jobs::remote::{self, Beat, Heartbeat, LeaseJobs, LeasedJobs, OpenSession, SettleLeases, Settled, WorkerSession, settle::Parsed},
};

/// Begins the session of a worker. It ends when nothing has been heard of the worker for ten minutes. A repeated request gets the same
/// session, even one that has ended.
#[utoipa::path(post, path = "/api/v1/worker-sessions", tag = "remote workers", operation_id = "open_worker_session",
    request_body = OpenSession, params(IdempotencyKeyHeader), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 201, description = "The worker may lease", body = WorkerSession),
        (status = 409, description = "The first request is still running", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn open_worker_session(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    OptionalKey(key): OptionalKey,
    body: Body<OpenSession>,
) -> ApiResult {
    let Some(key) = key else {
        return Ok(HttpResponse::Created().json(remote::open(&state.ctx, &caller, &body.value).await?));
    };
    let attempt = Attempt::new(caller.user_id, "POST /worker-sessions", key, &body.bytes);
    let creation = idempotency::create_once(&state.ctx, &attempt, async |_| {
        // On the connections of the process: this thread's may all be in such transactions.
        let session = remote::open(&state.ctx.for_process(), &caller, &body.value).await?;
        Ok((StoredAnswer { status: 201, location: None, body: serde_json::to_vec(&session).map_err(Error::internal)? }, ()))
    });
    match creation.await? {
        Creation::Fresh(stored, ()) => idempotency::answer(&stored, false),
        Creation::Replayed(stored) => idempotency::answer(&stored, true),
    }
}

/// Leases jobs, waiting for the first one if there is none, and settles earlier ones before that.
#[utoipa::path(post, path = "/api/v1/leases", tag = "remote workers", operation_id = "lease_jobs", request_body = LeaseJobs,
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The jobs, none when the wait has ended", body = LeasedJobs)))]
pub async fn lease_jobs(state: Data<AppState>, CallerOf(caller): CallerOf, request: HttpRequest, body: RawBody) -> ApiResult {
    let mut asked: LeaseJobs = body.parse()?;
    let settled = match asked.settle.take() {
        Some(settles) => Some(remote::settle(&state.ctx, &caller, asked.session_id, parsed(&settles)).await?),
        None => None,
    };
    drop(body);
    // Who waits does nothing; how many may is limited apart.
    RequestScope::from_request(&request).leave_in_flight();
    // Jobs that are sent to who has left would be nobody's until their leases expire.
    let may_have = async || require_unrevoked(&request).await.map(|()| !has_left(&request));
    let jobs = remote::lease(&state.ctx, &caller, &asked, may_have, left(request.clone())).await?;
    Ok(HttpResponse::Ok().json(LeasedJobs { jobs, settled }))
}

/// Settles jobs, each on its own. Repeating a settle is answered as the first was.
#[utoipa::path(post, path = "/api/v1/leases/settle", tag = "remote workers", operation_id = "settle_leases", request_body = SettleLeases,
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 207, description = "What became of each settle, in order", body = Settled)))]
pub async fn settle_leases(state: Data<AppState>, CallerOf(caller): CallerOf, body: RawBody) -> ApiResult {
    let told: SettleLeases = body.parse()?;
    let items = remote::settle(&state.ctx, &caller, told.session_id, parsed(&told.settle)).await?;
    Ok(HttpResponse::build(StatusCode::MULTI_STATUS).json(Settled { items }))
}

/// Extends leases, and tells which are lost, which jobs should stop, and what the worker should do.
#[utoipa::path(post, path = "/api/v1/leases/heartbeat", tag = "remote workers", operation_id = "extend_leases", request_body = Heartbeat,
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "What the worker must know", body = Beat)))]
pub async fn extend_leases(state: Data<AppState>, CallerOf(caller): CallerOf, body: Body<Heartbeat>) -> ApiResult {
    Ok(HttpResponse::Ok().json(remote::heartbeat(&state.ctx, &caller, &body.value).await?))
}

fn parsed(settles: &[Box<RawValue>]) -> Vec<Parsed> {
    settles.iter().map(|settle| parse_item(settle.get().as_bytes())).collect()
}
