//! Users, for administrators.

use crate::{
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Id, Meta, Query, answer_with_etag, check_if_match},
    openapi::headers::{IfMatchHeader, IfNoneMatchHeader},
    state::AppState,
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use shared::{
    accounts::{User, input::UserChange, users},
    ids::UserId,
    page::{IdPageQuery, Page},
};

/// All users, newest first.
#[utoipa::path(get, path = "/api/v1/users", tag = "accounts", operation_id = "list_users", params(IdPageQuery),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "Users", body = Page<User>)))]
pub async fn list_users(state: Data<AppState>, CallerOf(caller): CallerOf, Query(page): Query<IdPageQuery>) -> ApiResult {
    let page = page.parse()?;
    let page = state.ctx.read(async |ctx| users::list_users(&state.accounts.on(ctx.clone()), &caller, &page).await).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// One user.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "accounts", operation_id = "get_user", params(("id" = UserId, Path), IfNoneMatchHeader),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The user", body = User), (status = 304, description = "Not changed since `If-None-Match`")))]
pub async fn get_user(state: Data<AppState>, request: HttpRequest, CallerOf(caller): CallerOf, Id(id): Id<UserId>) -> ApiResult {
    let user = users::get_user(&state.accounts, &caller, id).await?;
    answer_with_etag(&request, &user)
}

/// Changes a user's role, or disables and enables them. Their access tokens end at once; a disabled user's sessions too.
#[utoipa::path(patch, path = "/api/v1/users/{id}", tag = "accounts", operation_id = "change_user", request_body = UserChange,
    params(("id" = UserId, Path), IfMatchHeader),
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "The user as changed", body = User),
        (status = 409, description = "The last administrator stays", body = Problem<'static>, content_type = "application/problem+json"),
        (status = 412, description = "The user has changed", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn change_user(
    state: Data<AppState>,
    request: HttpRequest,
    CallerOf(caller): CallerOf,
    meta: Meta,
    Id(id): Id<UserId>,
    body: Body<UserChange>,
) -> ApiResult {
    let as_seen = |user: &User| check_if_match(&request, user);
    let user = users::change_user(&state.accounts, &caller, (id, body.value), as_seen, &meta.into()).await?;
    answer_with_etag(&request, &user)
}
