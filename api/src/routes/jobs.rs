//! Jobs one at a time: submit, read, cancel, retry, delete. Many at once are in [`bulk`].

pub mod bulk;

use crate::{
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Id, Meta, Patience, PreferWait, Query, answer_with_etag},
    idempotency::{self, Creation, OptionalKey},
    openapi::headers::{IdempotencyKeyHeader, IfNoneMatchHeader, PreferHeader},
    routes::BASE,
    state::AppState,
};
use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use shared::{
    Context, Error, Result,
    idempotency::{Attempt as Repeatable, IdempotencyKey, StoredAnswer},
    ids::JobId,
    jobs::{
        self, Attempt, Job, ListJobs, NewJob, Origin, SubmitJob,
        cancel::Cancelled,
        submit,
        wait::{self, Waiter},
    },
    page::{Page, PageQuery},
};

/// Submits a job. 202 means that it is durable, as far as the `durability` of its queue goes; with `Prefer: wait=N` the answer is 200 with the result if it ends in time.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", operation_id = "submit_job", request_body = SubmitJob,
    params(IdempotencyKeyHeader, PreferHeader),
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 202, description = "Accepted: it will run", body = Job, headers(("Location" = String, description = "The job"))),
        (status = 200, description = "It has ended already; or, with `duplicate`, the earlier job that holds the unique key", body = Job, headers(("Location" = String, description = "The job"))),
        (status = 409, description = "A job holds the unique key, or the first request with this Idempotency-Key is still running",
            body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn submit_job(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    OptionalKey(key): OptionalKey,
    PreferWait(patience): PreferWait,
    body: Body<SubmitJob>,
) -> ApiResult {
    let ctx = &state.ctx;
    let attempt = key.map(|key| attempt(caller.user_id, key, &body.bytes));
    let submit = body.into_value();
    // Boxed: the future of the usual way is moved about for every request, and would be as large as the largest.
    let job = match attempt {
        Some(attempt) => match Box::pin(submit_once(ctx, &caller, submit, origin(meta), &attempt, patience)).await? {
            Creation::Fresh(_, job) => job,
            Creation::Replayed(stored) => return idempotency::answer(&stored, true),
        },
        None => {
            let job = submit::prepare(ctx, &caller, submit, origin(meta)).await?;
            match patience {
                Some(patience) => Box::pin(wait::submit_and_wait(ctx, job, patience.wait, || patience.begins())).await?,
                None => submit::submit(ctx, job).await?,
            }
        }
    };
    Ok(submitted(&job))
}

fn attempt(principal: shared::ids::UserId, key: IdempotencyKey, body: &[u8]) -> Repeatable {
    Repeatable::new(principal, "POST /jobs", key, body)
}

/// Submits in one transaction with the stored answer, which is the 202 even for a caller that waits.
async fn submit_once(
    ctx: &Context,
    caller: &shared::Caller,
    submit: SubmitJob,
    origin: Origin,
    attempt: &Repeatable,
    patience: Option<Patience>,
) -> Result<Creation<Job>> {
    let creation = idempotency::create_once(ctx, attempt, async |tx| {
        let new_job = submit::prepare(ctx, caller, submit, origin).await?;
        let (job, made) = submit::submit_in(ctx, tx, new_job).await?;
        Ok((stored(&job)?, (job, made)))
    });
    match creation.await? {
        Creation::Fresh(answer, (job, Some(made))) => Ok(Creation::Fresh(answer, announce(ctx, &made, job, patience).await)),
        Creation::Fresh(answer, (duplicate, None)) => Ok(Creation::Fresh(answer, duplicate)),
        Creation::Replayed(answer) => Ok(Creation::Replayed(answer)),
    }
}

/// Brings a committed job before the workers, and waits for it if the caller does.
async fn announce(ctx: &Context, new_job: &NewJob, job: Job, patience: Option<Patience>) -> Job {
    let waiter = match &patience {
        Some(_) => Waiter::begin(ctx, new_job).await,
        None => None,
    };
    submit::announce(ctx, &[new_job]).await;
    match (waiter, patience) {
        (Some(waiter), Some(patience)) => waiter.wait(job, patience.wait, patience.begins()).await,
        (None, _) | (_, None) => job,
    }
}

pub(super) fn stored(job: &Job) -> Result<StoredAnswer> {
    let body = serde_json::to_vec(job).map_err(Error::internal)?;
    Ok(StoredAnswer { status: if job.duplicate { 200 } else { 202 }, location: Some(location(job.id)), body })
}

fn submitted(job: &Job) -> HttpResponse {
    let is_news = !job.duplicate && !job.state.is_ended();
    let mut response = if is_news { HttpResponse::Accepted() } else { HttpResponse::Ok() };
    response.insert_header((header::LOCATION, location(job.id))).json(job)
}

fn location(id: JobId) -> String {
    format!("{BASE}/jobs/{id}")
}

/// Where a job comes from, as far as the request tells.
pub(super) fn origin(meta: Meta) -> Origin {
    Origin { request_id: Some(meta.request_id), traceparent: meta.traceparent }
}

/// One job as it stands: its row, and its lease while it runs. 503 while Redis is away, where it might be a job that only Redis has.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "get_job", params(("id" = JobId, Path), IfNoneMatchHeader),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The job", body = Job), (status = 304, description = "Unchanged since `If-None-Match`")))]
pub async fn get_job(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<JobId>, request: HttpRequest) -> ApiResult {
    let job = jobs::read::get(&state.ctx, &caller, id).await?;
    answer_with_etag(&request, &job)
}

/// The caller's jobs, newest first; operators see all. Those of a queue with `durability: "redis"` come when they have ended.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", operation_id = "list_jobs", params(ListJobs),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of jobs", body = Page<Job>)))]
pub async fn list_jobs(state: Data<AppState>, CallerOf(caller): CallerOf, Query(query): Query<ListJobs>) -> ApiResult {
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| jobs::list::list(ctx, &caller, &query).await).await?))
}

/// The attempts of a job that did not succeed, the last first.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/attempts", tag = "jobs", operation_id = "list_job_attempts",
    params(("id" = JobId, Path), PageQuery), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of attempts", body = Page<Attempt>)))]
pub async fn list_job_attempts(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    Id(id): Id<JobId>,
    Query(page): Query<PageQuery>,
) -> ApiResult {
    Ok(HttpResponse::Ok().json(jobs::attempts::list(&state.ctx, &caller, id, &page.parse()?).await?))
}

/// Cancels a job: at once if it waits, by a signal to its worker if it runs.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", operation_id = "cancel_job", params(("id" = JobId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "Cancelled", body = Job),
        (status = 202, description = "Its worker has been told to stop", body = Job),
        (status = 409, description = "It is over", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn cancel_job(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<JobId>) -> ApiResult {
    Ok(match jobs::cancel::cancel(&state.ctx, &caller, id).await? {
        Cancelled::Done(job) => HttpResponse::Ok().json(job),
        Cancelled::Signalled(job) => HttpResponse::Accepted().json(job),
    })
}

/// Runs a dead job again, with the same id and history.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/retry", tag = "jobs", operation_id = "retry_job", params(("id" = JobId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "It is queued again", body = Job),
        (status = 409, description = "It is not dead", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn retry_job(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<JobId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(jobs::retry::retry(&state.ctx, &caller, id).await?))
}

/// Deletes a job and its history, unless a worker holds it.
#[utoipa::path(delete, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "delete_job", params(("id" = JobId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "A worker holds it", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn delete_job(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<JobId>) -> ApiResult {
    jobs::delete::delete(&state.ctx, &caller, id).await?;
    Ok(HttpResponse::NoContent().finish())
}
