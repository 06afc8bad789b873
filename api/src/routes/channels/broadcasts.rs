//! The same publication on many channels, with an answer for each in order.

use super::publications::Publish;
use crate::{
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Meta},
    idempotency::{self, Creation, OptionalKey},
    openapi::headers::IdempotencyKeyHeader,
    problems,
    state::AppState,
};
use actix_web::{HttpResponse, http::StatusCode, web::Data};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::{
    Caller, Context, Error, Result,
    channels::{
        Position,
        requests::{self, BROADCAST_BYTES_PER_TOKEN, BROADCAST_CHANNELS_MAX, Requester},
    },
    idempotency::{Attempt, StoredAnswer},
    limits::{Class, Principal},
};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use validator::Validate;

const CHANNELS_MAX: u64 = BROADCAST_CHANNELS_MAX as u64;

/// One publication for many channels.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"channels": ["chat:lobby", "chat:help"], "data": {"text": "hello"}}))]
pub struct Broadcast {
    #[validate(length(min = 1, max = CHANNELS_MAX))]
    #[schema(min_items = 1, max_items = 1_000)]
    channels: Vec<String>,
    /// Any JSON, as large as the channels' namespaces allow.
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
    /// The same key within five minutes publishes nothing on a channel that has it already, and answers with the position there.
    #[serde(default)]
    #[validate(length(min = 1, max = 255))]
    #[schema(min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
    /// Sends it to those who listen now and keeps it nowhere.
    #[serde(default)]
    skip_history: Option<bool>,
}

/// What became of the publication on one channel: its position with 201, `problem` with anything else.
#[derive(Debug, Serialize, ToSchema)]
pub struct BroadcastItem<'a> {
    #[schema(example = 0)]
    index: usize,
    #[schema(minimum = 200, maximum = 599, example = 201)]
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, example = 8)]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "5f3a9c01")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<Problem<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BroadcastAnswer<'a> {
    items: Vec<BroadcastItem<'a>>,
}

/// Publishes the same on up to 1000 channels; one that is refused does not keep it from the others. On all of them together it is at most as
/// large as a bulk (`MAX_BULK_BYTES`), and costs a request of the class `bulk` for each MiB.
#[utoipa::path(post, path = "/api/v1/broadcasts", tag = "channels", operation_id = "create_broadcast",
    request_body = Broadcast, params(IdempotencyKeyHeader), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 207, description = "What became of it on each channel, in order", body = BroadcastAnswer<'static>),
        (status = 409, description = "The first request with this Idempotency-Key is still running", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn create_broadcast(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    OptionalKey(key): OptionalKey,
    body: Body<Broadcast>,
) -> ApiResult {
    let Broadcast { channels, data, tags, idempotency_key, skip_history } = body.value;
    let n_bytes = requests::broadcast_bytes(&state.ctx, channels.len(), &data, "/channels")?;
    // The first is taken as for any request.
    for _ in 1..n_bytes.div_ceil(BROADCAST_BYTES_PER_TOKEN) {
        let verdict = state.limiter.check(&state.ctx, Class::Bulk, Principal::User(caller.user_id)).await;
        if let Some(refusal) = verdict.and_then(|verdict| verdict.refusal()) {
            return Err(refusal.into());
        }
    }
    let mut publish = Publish { data, tags, idempotency_key, skip_history };
    let Some(key) = key else {
        let body = answer(&broadcast(&state.ctx, &caller, &channels, &publish).await?, &meta.request_id)?;
        return Ok(HttpResponse::build(StatusCode::MULTI_STATUS).content_type("application/json").body(body));
    };
    publish.take_key(&key);
    let attempt = Attempt::new(caller.user_id, "POST /broadcasts", key, &body.bytes);
    let creation = idempotency::create_once(&state.ctx, &attempt, async |_| {
        let verdicts = without_failures(broadcast(&state.ctx, &caller, &channels, &publish).await?)?;
        Ok((StoredAnswer { status: 207, location: None, body: answer(&verdicts, &meta.request_id)? }, ()))
    });
    match creation.await? {
        Creation::Fresh(stored, ()) => idempotency::answer(&stored, false),
        Creation::Replayed(stored) => idempotency::answer(&stored, true),
    }
}

async fn broadcast(ctx: &Context, caller: &Caller, channels: &[String], publish: &Publish) -> Result<Vec<Result<Position>>> {
    let new = publish.new_publication()?;
    let verdicts = requests::broadcast_for(ctx, Requester::Account(caller), channels, &new).await;
    Ok(verdicts.into_iter().map(|verdict| verdict.map_err(Error::from)).collect())
}

/// A failure of ours, stored under the request's key, would be the answer to every repeat.
fn without_failures(mut verdicts: Vec<Result<Position>>) -> Result<Vec<Result<Position>>> {
    let is_ours = |verdict: &Result<Position>| verdict.as_ref().is_err_and(|error| problems::row(error.code).status.is_server_error());
    match verdicts.iter().position(is_ours) {
        Some(at) => Err(verdicts.swap_remove(at).expect_err("it was looked at")),
        None => Ok(verdicts),
    }
}

fn answer(verdicts: &[Result<Position>], request_id: &str) -> Result<Vec<u8>> {
    let items = verdicts.iter().enumerate().map(|(index, verdict)| match verdict {
        Ok(Position { offset, epoch }) => {
            BroadcastItem { index, status: 201, offset: Some(*offset), epoch: Some(epoch.to_string()), problem: None }
        }
        Err(error) => {
            let status = problems::row(error.code).status.as_u16();
            BroadcastItem { index, status, offset: None, epoch: None, problem: Some(Problem::new(error, request_id)) }
        }
    });
    serde_json::to_vec(&BroadcastAnswer { items: items.collect() }).map_err(Error::internal)
}
