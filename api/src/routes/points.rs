//! Points: accepting them, stats over all tracks, and dead letters.

mod accept;

use crate::{
    edge::RequestScope,
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Id, Meta, Query},
    state::AppState,
};
use accept::Accepting;
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};
use serde::{Deserialize, Serialize};
use shared::{
    ids::TrackId,
    page::Page,
    points::{
        dead::{self, DeadLetter, ListDeadPoints, RemovedPoints, RequeuedPoints, SelectDeadPoints},
        process::now,
        stats::{self, Stats, StatsQuery},
    },
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// What an answer vouches for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Redis has the points; they are stored within a moment.
    #[default]
    Redis,
    /// The points are committed.
    Postgres,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SendQuery {
    /// Whether one refusal refuses all: the answer is then one 422 that points at the refused points.
    #[serde(default)]
    pub atomic: bool,
    /// `redis` when absent. With `postgres` the answer is 200, comes after the commit, and refuses points of unknown tracks.
    #[serde(default)]
    #[param(inline)]
    pub durability: Durability,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SendAnyQuery {
    /// Track of the points that name none; GPX never does.
    pub track_id: Option<Uuid>,
    /// Whether one refusal refuses all: the answer is then one 422 that points at the refused points.
    #[serde(default)]
    pub atomic: bool,
    /// `redis` when absent. With `postgres` the answer is 200, comes after the commit, and refuses points of unknown tracks.
    #[serde(default)]
    #[param(inline)]
    pub durability: Durability,
}

/// The JSON form: many points, or one. It only documents what is read point by point.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"points": [
    {"track_id": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da", "recorded_at": "2026-11-21T10:00:00Z", "lat": 52.52, "lon": 13.405, "speed_mps": 8.3},
    {"track_id": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da", "recorded_at": "2026-11-21T10:00:01Z", "lat": 52.5201, "lon": 13.405}
]}))]
pub enum SendPoints {
    Many(PointsList),
    One(SendPoint),
}

/// Many points.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PointsList {
    #[schema(min_items = 1, max_items = 10_000)]
    pub points: Vec<SendPoint>,
}

/// One point; its first three fields must be there, and `track_id` where the request does not name the track.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"recorded_at": "2026-11-21T10:00:00Z", "lat": 52.52, "lon": 13.405}))]
pub struct SendPoint {
    #[schema(format = DateTime, example = "2026-11-21T10:00:00Z")]
    pub recorded_at: String,
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    #[schema(minimum = -180, maximum = 180)]
    pub lon: f64,
    pub track_id: Option<TrackId>,
    #[schema(minimum = -12_000, maximum = 1_000_000)]
    pub altitude_m: Option<f64>,
    #[schema(minimum = 0, maximum = 20_000)]
    pub speed_mps: Option<f64>,
    #[schema(minimum = 0, maximum = 360)]
    pub heading_deg: Option<f64>,
    #[schema(minimum = 0, maximum = 20_100_000)]
    pub accuracy_m: Option<f64>,
    /// Up to a kibibyte, passed on as it is.
    #[schema(value_type = Option<Object>)]
    pub attributes: Option<serde_json::Value>,
}

/// What became of the points of a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcceptedPoints<'a> {
    /// Points that were accepted. Sending one again does no harm: a point is known by its track and time.
    #[schema(example = 2)]
    pub accepted: usize,
    pub rejected: Vec<RejectedPoint<'a>>,
    /// Only where the body was not gone through to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub stopped: Option<RejectedPoint<'a>>,
}

/// A point that was refused, by its place in the body; or from which place on nothing was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct RejectedPoint<'a> {
    pub index: usize,
    pub problem: Problem<'a>,
}

/// Sends points of any tracks: one or up to 10,000 in JSON, NDJSON (accepted while it arrives), CSV with a header, or GPX.
///
/// Each point is judged by itself. Whether its track is there, and the caller's, is found out when it is stored: points of others are dead letters.
/// While too many points wait to be stored the answer is 503.
#[utoipa::path(post, path = "/api/v1/points", tag = "points", operation_id = "create_points",
    request_body(content(
        (SendPoints = "application/json"),
        (String = "application/x-ndjson", example = "{\"track_id\":\"01a1fb40-f998-71ea-83d1-3bd51ccbb3da\",\"recorded_at\":\"2026-11-21T10:00:00Z\",\"lat\":52.52,\"lon\":13.405}\n"),
        (String = "text/csv", example = "track_id,recorded_at,lat,lon\n01a1fb40-f998-71ea-83d1-3bd51ccbb3da,2026-11-21T10:00:00Z,52.52,13.405\n"),
        (String = "application/gpx+xml", example = "<gpx><trk><trkseg><trkpt lat=\"52.52\" lon=\"13.405\"><time>2026-11-21T10:00:00Z</time></trkpt></trkseg></trk></gpx>"))),
    params(SendAnyQuery), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "With `durability=postgres`: they are committed", body = AcceptedPoints<'static>),
        (status = 202, description = "The one point is accepted", body = AcceptedPoints<'static>),
        (status = 207, description = "How many were accepted, and what is wrong with the others", body = AcceptedPoints<'static>)))]
pub async fn create_points(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    Query(query): Query<SendAnyQuery>,
    request: HttpRequest,
    payload: Payload,
) -> ApiResult {
    let SendAnyQuery { track_id, atomic, durability } = query;
    let scope = RequestScope::from_request(&request);
    let of_track = track_id.map(TrackId);
    let accepting = Accepting { ctx: &state.ctx, caller: &caller, request_id: &meta.request_id, scope: &scope, of_track };
    accepting.run(SendQuery { atomic, durability }, &request, payload).await
}

/// Sends points of one track, in the same forms; points need not name it.
#[utoipa::path(post, path = "/api/v1/tracks/{id}/points", tag = "points", operation_id = "create_track_points",
    request_body(content(
        (SendPoints = "application/json"),
        (String = "application/x-ndjson", example = "{\"recorded_at\":\"2026-11-21T10:00:00Z\",\"lat\":52.52,\"lon\":13.405}\n"),
        (String = "text/csv", example = "recorded_at,lat,lon\n2026-11-21T10:00:00Z,52.52,13.405\n"),
        (String = "application/gpx+xml", example = "<gpx><trk><trkseg><trkpt lat=\"52.52\" lon=\"13.405\"><time>2026-11-21T10:00:00Z</time></trkpt></trkseg></trk></gpx>"))),
    params(("id" = TrackId, Path), SendQuery), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "With `durability=postgres`: they are committed", body = AcceptedPoints<'static>),
        (status = 202, description = "The one point is accepted", body = AcceptedPoints<'static>),
        (status = 207, description = "How many were accepted, and what is wrong with the others", body = AcceptedPoints<'static>)))]
pub async fn create_track_points(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    Id(id): Id<TrackId>,
    Query(query): Query<SendQuery>,
    request: HttpRequest,
    payload: Payload,
) -> ApiResult {
    now::require_writable(&state.ctx, &caller, id).await?;
    let scope = RequestScope::from_request(&request);
    let accepting = Accepting { ctx: &state.ctx, caller: &caller, request_id: &meta.request_id, scope: &scope, of_track: Some(id) };
    accepting.run(query, &request, payload).await
}

/// Stats of all the caller's tracks together, by hour or day; operators have everybody's.
#[utoipa::path(get, path = "/api/v1/points/stats", tag = "points", operation_id = "get_point_stats", params(StatsQuery),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The stats, oldest first", body = Stats)))]
pub async fn get_point_stats(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    Query(query): Query<StatsQuery>,
    request: HttpRequest,
) -> ApiResult {
    let scope = RequestScope::from_request(&request);
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| stats::of_all(ctx, &caller, &query, &*scope).await).await?))
}

/// Points that were accepted and could not be stored, the newest first: those the caller sent; operators see all.
#[utoipa::path(get, path = "/api/v1/points/dead", tag = "points", operation_id = "list_dead_points", params(ListDeadPoints),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of dead letters", body = Page<DeadLetter>)))]
pub async fn list_dead_points(state: Data<AppState>, CallerOf(caller): CallerOf, Query(query): Query<ListDeadPoints>) -> ApiResult {
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| dead::list(ctx, &caller, &query).await).await?))
}

/// Sends dead letters again, in the name of who sent them: some, those of one code, or all.
#[utoipa::path(post, path = "/api/v1/points/dead/requeue", tag = "points", operation_id = "requeue_dead_points", request_body = SelectDeadPoints,
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "How many were sent again", body = RequeuedPoints)))]
pub async fn requeue_dead_points(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, body: Body<SelectDeadPoints>) -> ApiResult {
    Ok(HttpResponse::Ok().json(dead::requeue(&state.ctx, &caller, &body.value, &meta.into()).await?))
}

/// Deletes dead letters: some, those of one code, or all.
#[utoipa::path(delete, path = "/api/v1/points/dead", tag = "points", operation_id = "delete_dead_points", request_body = SelectDeadPoints,
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "How many were deleted", body = RemovedPoints)))]
pub async fn delete_dead_points(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, body: Body<SelectDeadPoints>) -> ApiResult {
    Ok(HttpResponse::Ok().json(dead::delete(&state.ctx, &caller, &body.value, &meta.into()).await?))
}
