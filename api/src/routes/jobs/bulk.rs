//! Many jobs in one request, with an answer for each in order.

use super::origin;
use crate::{
    error::{ApiResult, Problem},
    extract::{CallerOf, Items, JSON_ITEMS_MAX, Meta, Query},
    idempotency::{self, OptionalKey},
    openapi::headers::IdempotencyKeyHeader,
    problems,
    state::AppState,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Payload},
};
use futures_util::future::join;
use serde::{Deserialize, Serialize};
use shared::{
    Caller, Context, Error, Result,
    idempotency::{Attempt, StoredAnswer},
    ids::JobId,
    jobs::{Origin, SubmitJob, bulk, unique::Accepted},
};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct BulkQuery {
    /// Whether one refusal refuses all: the answer is then one 422 that points at every refused job. Jobs of queues with
    /// `durability: "redis"` are refused in it.
    #[serde(default)]
    pub atomic: bool,
}

/// The JSON form; NDJSON is one such job per line.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"jobs": [{"kind": "debug.echo", "payload": 1}, {"kind": "debug.echo", "payload": 2}]}))]
pub struct SubmitJobs {
    #[schema(min_items = 1, max_items = 1_000)]
    pub jobs: Vec<SubmitJob>,
}

/// What became of one job of a bulk: `id` with 202 and 200, `problem` with anything else.
#[derive(Debug, Serialize, ToSchema)]
pub struct BulkItem<'a> {
    #[schema(example = 0)]
    index: usize,
    #[schema(minimum = 200, maximum = 599, example = 202)]
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<JobId>,
    /// `true` with 200: `id` is an earlier job, which holds the unique key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<Problem<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BulkAnswer<'a> {
    items: Vec<BulkItem<'a>>,
    /// Only where the body was not gone through to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    stopped: Option<Stopped<'a>>,
}

/// Where going through the body ended early, and why. Nothing was done about the jobs from `index` on: send them again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stopped<'a> {
    #[schema(example = 4_000)]
    index: usize,
    problem: Problem<'a>,
}

/// Submits many jobs: up to 1000 in JSON, or 100,000 in NDJSON, which is written while it arrives. When that cannot go on (the body
/// breaks off or takes too long, a server is away), `stopped` says from which job on nothing was done.
#[utoipa::path(post, path = "/api/v1/jobs/bulk", tag = "jobs", operation_id = "submit_jobs",
    request_body(content(
        (SubmitJobs = "application/json"),
        (String = "application/x-ndjson", example = "{\"kind\":\"debug.echo\",\"payload\":1}\n{\"kind\":\"debug.echo\",\"payload\":2}\n"))),
    params(BulkQuery, IdempotencyKeyHeader),
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 207, description = "What became of each job, in order", body = BulkAnswer<'static>),
        (status = 409, description = "The first request with this key is still running", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn submit_jobs(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    OptionalKey(key): OptionalKey,
    Query(query): Query<BulkQuery>,
    request: HttpRequest,
    payload: Payload,
) -> ApiResult {
    let mut bulk = Bulk { ctx: &state.ctx, caller: &caller, request_id: meta.request_id.clone(), origin: origin(meta), n_items: 0 };
    let mut items = Items::open(&request, payload.into_inner())?;
    let Some(key) = key else {
        let body = if query.atomic { bulk.all_or_nothing(&mut items).await? } else { bulk.each(&mut items).await? };
        return Ok(HttpResponse::build(StatusCode::MULTI_STATUS).content_type("application/json").body(body));
    };
    let attempt = Attempt::new(caller.user_id, "POST /jobs/bulk", key, &items.whole().await?);
    // What says nothing means `false`, and is what a request without a query is.
    let attempt = if query.atomic { attempt.with_query("atomic=true") } else { attempt };
    let creation = idempotency::create_once(&state.ctx, &attempt, async |tx| {
        let (body, verdicts) = bulk.in_transaction(tx, &mut items, query.atomic).await?;
        Ok((StoredAnswer { status: 207, location: None, body }, verdicts))
    });
    match creation.await? {
        idempotency::Creation::Fresh(stored, verdicts) => {
            bulk::announce(&state.ctx, &verdicts).await;
            idempotency::answer(&stored, false)
        }
        idempotency::Creation::Replayed(stored) => idempotency::answer(&stored, true),
    }
}

/// One bulk request on its way.
struct Bulk<'a> {
    ctx: &'a Context,
    caller: &'a Caller,
    origin: Origin,
    request_id: String,
    /// Items gone through so far.
    n_items: usize,
}

impl Bulk<'_> {
    /// Writes chunk by chunk as the body arrives, and announces each while the next is written. What was written stays, so a
    /// later failure is told beside it.
    async fn each(&mut self, items: &mut Items) -> Result<Vec<u8>> {
        let mut answer = Answer::default();
        let mut unannounced = Vec::new();
        loop {
            let (written, ()) = join(self.write_next(items), bulk::announce(self.ctx, &unannounced)).await;
            match written {
                Ok(Some(verdicts)) => {
                    self.n_items += answer.add(self.n_items, &verdicts, &self.request_id)?;
                    unannounced = verdicts;
                }
                Ok(None) if self.n_items == 0 => return Err(empty()),
                Ok(None) => return answer.finish(None),
                Err(error) if self.n_items == 0 => return Err(error),
                Err(error) => {
                    let problem = Problem::new(&error, &self.request_id);
                    return answer.finish(Some(Stopped { index: self.n_items, problem }));
                }
            }
        }
    }

    /// `None` at the end of the body.
    async fn write_next(&self, items: &mut Items) -> Result<Option<Vec<Result<Accepted>>>> {
        let Some(chunk) = items.next_chunk(bulk::CHUNK_MAX).await? else { return Ok(None) };
        let prepared = bulk::prepare(self.ctx, self.caller, chunk, &self.origin).await?;
        Ok(Some(prepared.write(self.ctx, None).await))
    }

    async fn all_or_nothing(&mut self, items: &mut Items) -> Result<Vec<u8>> {
        // A transaction must not stay open for as long as a client takes to send.
        items.read_all().await?;
        let mut tx = self.ctx.pg.begin().await?;
        let (body, verdicts) = self.in_transaction(&mut tx, items, true).await?;
        tx.commit().await?;
        bulk::announce(self.ctx, &verdicts).await;
        Ok(body)
    }

    /// Writes everything in the caller's transaction; announcing it is left to the caller.
    async fn in_transaction(&mut self, tx: &mut PgConnection, items: &mut Items, atomic: bool) -> Result<(Vec<u8>, Vec<Result<Accepted>>)> {
        let (mut answer, mut all) = (Answer::default(), Vec::new());
        while let Some(chunk) = items.next_chunk(bulk::CHUNK_MAX).await? {
            let prepared = bulk::prepare(self.ctx, self.caller, chunk, &self.origin).await?;
            if atomic {
                prepared.all_or_nothing(self.n_items)?;
            }
            let verdicts = without_failures(prepared.write(self.ctx, Some(&mut *tx)).await)?;
            if atomic {
                bulk::all_written(&verdicts, self.n_items)?;
            }
            self.n_items += answer.add(self.n_items, &verdicts, &self.request_id)?;
            all.extend(verdicts);
        }
        if self.n_items == 0 { Err(empty()) } else { Ok((answer.finish(None)?, all)) }
    }
}

/// A failure of ours fails the whole, whose transaction then writes nothing: stored under the request's key, or told as a
/// refusal, it would be the answer to every repeat.
fn without_failures(mut verdicts: Vec<Result<Accepted>>) -> Result<Vec<Result<Accepted>>> {
    let is_ours = |verdict: &Result<Accepted>| verdict.as_ref().is_err_and(|error| problems::row(error.code).status.is_server_error());
    match verdicts.iter().position(is_ours) {
        Some(at) => Err(verdicts.swap_remove(at).expect_err("it was looked at")),
        None => Ok(verdicts),
    }
}

fn empty() -> Error {
    Error::invalid("/jobs", "length", format!("must hold at least one job, and in JSON at most {JSON_ITEMS_MAX}"))
}

/// The body of the answer, written item by item: a large bulk is never held as a tree.
#[derive(Default)]
struct Answer(Vec<u8>);

impl Answer {
    /// Returns how many items were added.
    fn add(&mut self, first_index: usize, verdicts: &[Result<Accepted>], request_id: &str) -> Result<usize> {
        for (index, verdict) in (first_index..).zip(verdicts) {
            self.0.extend_from_slice(if self.0.is_empty() { b"{\"items\":[" } else { b"," });
            let item = match verdict {
                Ok(Accepted::New(job)) => BulkItem { index, status: 202, id: Some(job.id), duplicate: false, problem: None },
                Ok(Accepted::Existing(id)) => BulkItem { index, status: 200, id: Some(*id), duplicate: true, problem: None },
                Err(error) => {
                    let status = problems::row(error.code).status.as_u16();
                    BulkItem { index, status, id: None, duplicate: false, problem: Some(Problem::new(error, request_id)) }
                }
            };
            serde_json::to_writer(&mut self.0, &item).map_err(Error::internal)?;
        }
        Ok(verdicts.len())
    }

    fn finish(mut self, stopped: Option<Stopped<'_>>) -> Result<Vec<u8>> {
        self.0.push(b']');
        if let Some(stopped) = stopped {
            self.0.extend_from_slice(b",\"stopped\":");
            serde_json::to_writer(&mut self.0, &stopped).map_err(Error::internal)?;
        }
        self.0.push(b'}');
        Ok(self.0)
    }
}
