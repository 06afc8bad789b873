//! Signing up, in and out, and what a user does to their own account.

use crate::{
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, Id, Meta, Query, answer_with_etag},
    openapi::headers::IfNoneMatchHeader,
    state::AppState,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::Data,
};
use shared::{
    accounts::{
        ListedSession, Session, User,
        input::{Credentials, ForgottenPassword, NewUser, PasswordChange, PasswordReset, RefreshRequest},
        login, password, refresh, register as registration, reset, sessions, users,
    },
    ids::SessionId,
    page::{IdPageQuery, Page},
};

/// Tokens are for the one who asked, and for no cache on the way.
fn answer_with_tokens(status: StatusCode, session: &Session) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store"))).json(session)
}

/// Makes an account and signs it in.
#[utoipa::path(post, path = "/api/v1/auth/register", tag = "accounts", operation_id = "register_user", request_body = NewUser,
    responses(
        (status = 201, description = "The account, signed in", body = Session),
        (status = 403, description = "Registration is closed", body = Problem<'static>, content_type = "application/problem+json"),
        (status = 409, description = "The address has an account", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn register_user(state: Data<AppState>, meta: Meta, body: Body<NewUser>) -> ApiResult {
    let session = registration::register(&state.accounts, &body.value, &meta.into()).await?;
    Ok(answer_with_tokens(StatusCode::CREATED, &session))
}

/// Signs in.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "accounts", operation_id = "create_session", request_body = Credentials,
    responses(
        (status = 200, description = "A new session", body = Session),
        (status = 401, description = "Address or password is wrong", body = Problem<'static>, content_type = "application/problem+json"),
        (status = 403, description = "The account is disabled", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn create_session(state: Data<AppState>, meta: Meta, body: Body<Credentials>) -> ApiResult {
    let session = login::login(&state.accounts, &body.value, &meta.into()).await?;
    Ok(answer_with_tokens(StatusCode::OK, &session))
}

/// Gives the next tokens for a refresh token, which is good for one call.
///
/// For ten seconds a repeated call gets the same successor; later it ends the session, as two parties hold its tokens.
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "accounts", operation_id = "refresh_session", request_body = RefreshRequest,
    responses(
        (status = 200, description = "The session with its next tokens", body = Session),
        (status = 401, description = "The token is not good", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn refresh_session(state: Data<AppState>, meta: Meta, body: Body<RefreshRequest>) -> ApiResult {
    let session = refresh::refresh(&state.accounts, &body.value.refresh_token, &meta.into()).await?;
    Ok(answer_with_tokens(StatusCode::OK, &session))
}

/// Ends the session of a refresh token.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "accounts", operation_id = "end_session", request_body = RefreshRequest,
    security(("bearer" = [])),
    responses((status = 204, description = "The session has ended")))]
pub async fn end_session(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, body: Body<RefreshRequest>) -> ApiResult {
    sessions::logout(&state.accounts, &caller, &body.value.refresh_token, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The account of the caller.
#[utoipa::path(get, path = "/api/v1/auth/me", tag = "accounts", operation_id = "get_me", params(IfNoneMatchHeader),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The caller", body = User), (status = 304, description = "Not changed since `If-None-Match`")))]
pub async fn get_me(state: Data<AppState>, request: HttpRequest, CallerOf(caller): CallerOf) -> ApiResult {
    let user = users::get_me(&state.accounts, &caller).await?;
    answer_with_etag(&request, &user)
}

/// Deletes the caller's account with all it has. It is gone at once; of very much that it had, the rest is removed in the background.
#[utoipa::path(delete, path = "/api/v1/auth/me", tag = "accounts", operation_id = "delete_me", security(("bearer" = [])),
    responses(
        (status = 204, description = "The account is gone"),
        (status = 409, description = "The last administrator stays", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn delete_me(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta) -> ApiResult {
    users::delete_me(&state.accounts, &caller, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Changes the password; other sessions end, and this one gets new tokens.
#[utoipa::path(post, path = "/api/v1/auth/password", tag = "accounts", operation_id = "change_password", request_body = PasswordChange,
    security(("bearer" = [])),
    responses((status = 200, description = "This session with its new tokens", body = Session)))]
pub async fn change_password(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, body: Body<PasswordChange>) -> ApiResult {
    let session = password::change_password(&state.accounts, &caller, &body.value, &meta.into()).await?;
    Ok(answer_with_tokens(StatusCode::OK, &session))
}

/// Asks for a token by mail that sets a new password. The answer is the same whether or not there is such an account.
#[utoipa::path(post, path = "/api/v1/auth/password/forgot", tag = "accounts", operation_id = "forgot_password",
    request_body = ForgottenPassword,
    responses((status = 202, description = "The same for everyone, whether or not there is such an account")))]
pub async fn forgot_password(state: Data<AppState>, meta: Meta, body: Body<ForgottenPassword>) -> ApiResult {
    reset::forgot_password(&state.accounts, &body.value, &meta.into()).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// Sets a new password with a token that came by mail: good once, for 30 minutes. All sessions end.
#[utoipa::path(post, path = "/api/v1/auth/password/reset", tag = "accounts", operation_id = "reset_password",
    request_body = PasswordReset,
    responses(
        (status = 204, description = "The password is set"),
        (status = 401, description = "The token is not good", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn reset_password(state: Data<AppState>, meta: Meta, body: Body<PasswordReset>) -> ApiResult {
    reset::reset_password(&state.accounts, &body.value, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The caller's sessions, newest first.
#[utoipa::path(get, path = "/api/v1/auth/sessions", tag = "accounts", operation_id = "list_sessions", params(IdPageQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "Sessions that have not ended", body = Page<ListedSession>)))]
pub async fn list_sessions(state: Data<AppState>, CallerOf(caller): CallerOf, Query(page): Query<IdPageQuery>) -> ApiResult {
    let page = sessions::list_sessions(&state.accounts, &caller, &page.parse()?).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// Ends one of the caller's sessions.
#[utoipa::path(delete, path = "/api/v1/auth/sessions/{id}", tag = "accounts", operation_id = "revoke_session",
    params(("id" = SessionId, Path)), security(("bearer" = [])),
    responses((status = 204, description = "The session has ended")))]
pub async fn revoke_session(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<SessionId>) -> ApiResult {
    sessions::revoke_session(&state.accounts, &caller, id, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}
