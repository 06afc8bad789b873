//! What a stranger finds first: the root, and what the `type` of a problem leads to. Both say what the documentation says, and nothing of what
//! runs here.

use crate::{
    error::{ApiError, ApiResult, Problem},
    problems::{self, Row},
    state::AppState,
};
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use serde::Serialize;
use shared::{Code, config::Exposure};
use utoipa::ToSchema;

/// Where to go on from here.
#[derive(Debug, Serialize, ToSchema)]
pub struct Index {
    #[schema(pattern = "^Millrace$", example = "Millrace")]
    name: &'static str,
    /// Pages for people; absent with `DOCS=off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/docs")]
    docs: Option<&'static str>,
    /// The OpenAPI document; absent with `DOCS=off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/api-docs/openapi.json")]
    openapi: Option<&'static str>,
    #[schema(example = "/healthz")]
    health: &'static str,
}

/// Says what answers here, and where its documentation is.
#[utoipa::path(get, path = "/", tag = "system", operation_id = "get_index",
    responses((status = 200, description = "Where to go on", body = Index)))]
pub async fn get_index(state: Data<AppState>) -> HttpResponse {
    let is_documented = state.ctx.settings().docs != Exposure::Off;
    HttpResponse::Ok().json(Index {
        name: "Millrace",
        docs: is_documented.then_some("/docs"),
        openapi: is_documented.then_some("/api-docs/openapi.json"),
        health: "/healthz",
    })
}

/// A row of the list of problems.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemType {
    #[serde(rename = "type")]
    #[schema(pattern = "^/problems/[a-z_]+$", example = "/problems/rate_limited")]
    kind: String,
    #[schema(value_type = Code, example = "rate_limited")]
    code: &'static str,
    #[schema(minimum = 400, maximum = 599, example = 429)]
    status: u16,
    #[schema(example = "Too many requests")]
    title: &'static str,
    /// What to do about it.
    #[schema(example = "Repeat after `Retry-After`, with growing pauses.")]
    advice: &'static str,
}

/// Explains a problem: the `type` of every error leads here.
#[utoipa::path(get, path = "/problems/{code}", tag = "system", operation_id = "get_problem_type",
    params(("code" = Code, Path, description = "The `code` of the problem.")),
    responses(
        (status = 200, description = "What it means, and what to do about it", body = ProblemType),
        (status = 404, description = "There is no such problem", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn get_problem_type(code: Path<String>) -> ApiResult {
    let found = Code::ALL.iter().find(|known| known.as_str() == code.as_str());
    let code = *found.ok_or_else(|| ApiError::new(Code::NotFound, "There is no problem of this name."))?;
    let Row { status, title, advice } = problems::row(code);
    let kind = problems::type_of(code);
    Ok(HttpResponse::Ok().json(ProblemType { kind, code: code.as_str(), status: status.as_u16(), title, advice: advice.text() }))
}
