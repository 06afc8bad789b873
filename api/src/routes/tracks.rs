//! Tracks: what is followed, and what is asked of one.

use crate::{
    edge::RequestScope,
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Id, Meta, Query, answer_with_etag, check_if_match},
    idempotency::{self, Creation, OptionalKey},
    openapi::headers::{IdempotencyKeyHeader, IfMatchHeader},
    state::AppState,
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use shared::{
    Error,
    idempotency::{Attempt, StoredAnswer},
    ids::TrackId,
    page::Page,
    points::{
        PointView, latest,
        read::{self, ListPoints},
        stats::{self, Stats, StatsQuery},
    },
    tracks::{ListTracks, ListedTrack, NewTrack, PatchTrack, Track, manage},
};

/// Makes a track.
#[utoipa::path(post, path = "/api/v1/tracks", tag = "tracks", operation_id = "create_track", request_body = NewTrack,
    params(IdempotencyKeyHeader), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 201, description = "The track", body = Track),
        (status = 409, description = "Another track of yours has that `external_id`, there are as many as there may be, or the first request \
            is still running", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn create_track(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    OptionalKey(key): OptionalKey,
    body: Body<NewTrack>,
) -> ApiResult {
    let ctx = &state.ctx;
    let attempt = key.map(|key| Attempt::new(caller.user_id, "POST /tracks", key, &body.bytes));
    let creation = idempotency::create(ctx, attempt.as_ref(), async |tx| {
        let track = manage::create(ctx, tx, &caller, body.value).await?;
        Ok((StoredAnswer { status: 201, location: None, body: serde_json::to_vec(&track).map_err(Error::internal)? }, ()))
    });
    match creation.await? {
        Creation::Fresh(stored, ()) => idempotency::answer(&stored, false),
        Creation::Replayed(stored) => idempotency::answer(&stored, true),
    }
}

/// The caller's tracks, newest first, if wanted each with its latest point and the stats of that point's hour. Operators see all.
#[utoipa::path(get, path = "/api/v1/tracks", tag = "tracks", operation_id = "list_tracks", params(ListTracks),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of tracks", body = Page<ListedTrack>)))]
pub async fn list_tracks(state: Data<AppState>, CallerOf(caller): CallerOf, Query(query): Query<ListTracks>) -> ApiResult {
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| manage::list(ctx, &caller, &query).await).await?))
}

/// One track.
#[utoipa::path(get, path = "/api/v1/tracks/{id}", tag = "tracks", operation_id = "get_track", params(("id" = TrackId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The track", body = Track, headers(("ETag" = String, description = "Names this state of it")))))]
pub async fn get_track(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<TrackId>, request: HttpRequest) -> ApiResult {
    answer_with_etag(&request, &manage::get(&state.ctx, &caller, id).await?)
}

/// Changes a track.
#[utoipa::path(patch, path = "/api/v1/tracks/{id}", tag = "tracks", operation_id = "update_track",
    params(("id" = TrackId, Path), IfMatchHeader), request_body = PatchTrack, security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "The track as it is now", body = Track),
        (status = 409, description = "Another track of its owner has that `external_id`", body = Problem<'static>,
            content_type = "application/problem+json"),
        (status = 412, description = "It is no longer what `If-Match` names", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn update_track(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    Id(id): Id<TrackId>,
    request: HttpRequest,
    body: Body<PatchTrack>,
) -> ApiResult {
    let allow = |track: &Track| check_if_match(&request, track);
    Ok(HttpResponse::Ok().json(manage::update(&state.ctx, &caller, id, body.value, allow).await?))
}

/// Deletes a track. Its points can no longer be read, and are removed soon.
#[utoipa::path(delete, path = "/api/v1/tracks/{id}", tag = "tracks", operation_id = "delete_track", params(("id" = TrackId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_track(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<TrackId>) -> ApiResult {
    manage::delete(&state.ctx, &caller, id, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The points of a track by time.
#[utoipa::path(get, path = "/api/v1/tracks/{id}/points", tag = "points", operation_id = "list_points",
    params(("id" = TrackId, Path), ListPoints), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of points", body = Page<PointView>)))]
pub async fn list_points(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    Id(id): Id<TrackId>,
    Query(query): Query<ListPoints>,
) -> ApiResult {
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| read::list(ctx, &caller, id, &query).await).await?))
}

/// The latest point of a track; 404 while it has none.
#[utoipa::path(get, path = "/api/v1/tracks/{id}/latest", tag = "points", operation_id = "get_latest_point", params(("id" = TrackId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The point", body = PointView)))]
pub async fn get_latest_point(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<TrackId>) -> ApiResult {
    Ok(HttpResponse::Ok().json(latest::latest(&state.ctx, &caller, id).await?))
}

/// Stats of a track by hour or day.
#[utoipa::path(get, path = "/api/v1/tracks/{id}/stats", tag = "points", operation_id = "get_track_stats",
    params(("id" = TrackId, Path), StatsQuery), security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The stats, oldest first", body = Stats)))]
pub async fn get_track_stats(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    Id(id): Id<TrackId>,
    Query(query): Query<StatsQuery>,
    request: HttpRequest,
) -> ApiResult {
    let scope = RequestScope::from_request(&request);
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| stats::of_track(ctx, &caller, id, &query, &*scope).await).await?))
}
