//! What runs here: version, this process, and the nodes that share its stores; how large it should be; and a word to everybody.

use super::channels::publications::Published;
use crate::{
    error::ApiResult,
    extract::{self, Body, CallerOf, Meta, Query},
    state::AppState,
};
use actix_web::{HttpResponse, web::Data};
use serde::Serialize;
use shared::{
    capacity::{self, Capacity, CapacityQuery, OfProcess},
    channels::administration::{self, SystemMessage},
    nodes::{self, Node},
    telemetry::metrics::{APP_ACTIVE_CONNECTIONS, HTTP_IN_FLIGHT},
};
use time::OffsetDateTime;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct SystemInfo {
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// `release` or `debug`.
    #[schema(pattern = "^(release|debug)$")]
    build: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    /// The node that answers.
    node: String,
    /// All that were heard of within 30 s, for operators; empty for others and while Redis is away.
    nodes: Vec<Node>,
    limits: Limits,
    #[schema(example = "development")]
    profile: &'static str,
}

/// The limits a client can run into.
#[derive(Debug, Serialize, ToSchema)]
pub struct Limits {
    body_bytes: usize,
    bulk_bytes: usize,
    payload_bytes: usize,
    request_timeout_ms: u64,
    wait_max_s: u64,
}

/// Tells version, limits and nodes.
#[utoipa::path(get, path = "/api/v1/system/info", tag = "system", operation_id = "get_system_info",
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The platform", body = SystemInfo)))]
pub async fn get_system_info(state: Data<AppState>, CallerOf(caller): CallerOf) -> ApiResult {
    let nodes = if caller.sees_all() { nodes::list(&state.ctx).await.unwrap_or_default() } else { Vec::new() };
    let settings = state.ctx.settings();
    Ok(HttpResponse::Ok().json(SystemInfo {
        version: env!("CARGO_PKG_VERSION"),
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        started_at: state.started_at,
        node: state.node_id.to_string(),
        nodes,
        limits: Limits {
            body_bytes: settings.max_body_bytes.0,
            bulk_bytes: settings.max_bulk_bytes.0,
            payload_bytes: settings.max_payload_bytes.0,
            request_timeout_ms: settings.request_timeout_ms,
            wait_max_s: extract::WAIT_MAX.as_secs(),
        },
        profile: settings.profile.as_str(),
    }))
}

/// Says what to set for this machine and load, and why: threads, processes, nodes, pools, sockets, memory, job slots, and when to add.
#[utoipa::path(get, path = "/api/v1/system/capacity", tag = "system", operation_id = "get_system_capacity", params(CapacityQuery),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "What there is, and what it should be", body = Capacity)))]
pub async fn get_system_capacity(state: Data<AppState>, Query(query): Query<CapacityQuery>) -> ApiResult {
    let users = query.checked()?;
    Ok(HttpResponse::Ok().json(capacity::look(&state.ctx, Some(of_process(&state)), users).await))
}

/// Connections are counted where they are opened and closed, thread by thread: the metrics have their sum.
fn of_process(state: &AppState) -> OfProcess {
    let metrics = state.metrics.render();
    let sum = |name: &str| {
        let values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.reduce(|sum, value| sum + value).map(|sum| sum.max(0.0) as u64)
    };
    let sockets = state.sockets.n_open() as u64;
    OfProcess { connections: sum(APP_ACTIVE_CONNECTIONS).unwrap_or(sockets), sockets, requests_in_flight: sum(HTTP_IN_FLIGHT) }
}

/// Publishes on the channel `system`, which every user may subscribe to. The same is at `/system/send`.
#[utoipa::path(post, path = "/api/v1/system/send", tag = "system", operation_id = "send_system_message", request_body = SystemMessage,
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 201, description = "It is published", body = Published)))]
pub async fn send_system_message(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, body: Body<SystemMessage>) -> ApiResult {
    let position = administration::send_system_message(&state.ctx, &caller, &body.value, &meta.into()).await?;
    Ok(HttpResponse::Created().json(Published::from(&position)))
}
