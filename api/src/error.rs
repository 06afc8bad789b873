//! How an error becomes an answer: [`ApiError`] carries the domain error to the edge, which knows the request id and
//! writes the problem there. Nothing else in this crate writes an error body.

use crate::problems::{self, Row};
use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use shared::{Code, Error, FieldError};
use std::{borrow::Cow, fmt, rc::Rc};
use utoipa::ToSchema;

pub type ApiResult<T = HttpResponse> = Result<T, ApiError>;

/// A domain error on its way out.
#[derive(Debug, Clone)]
pub struct ApiError(pub Rc<Error>);

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self(Rc::new(error))
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

impl ApiError {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Error::new(code, detail).into()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        problems::row(self.0.code).status
    }

    /// An empty answer that carries the error; the edge fills in the body.
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status_code());
        response.extensions_mut().insert(self.clone());
        response
    }
}

/// RFC 9457, as every error answer has it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "/problems/validation_failed", "title": "The request breaks a rule", "status": 422,
    "detail": "The body breaks a rule.", "code": "validation_failed", "request_id": "0197a1b2-0000-7000-8000-000000000000",
    "errors": [{"pointer": "/email", "code": "email", "detail": "is not an e-mail address"}]
}))]
pub struct Problem<'a> {
    #[serde(rename = "type")]
    #[schema(pattern = "^/problems/[a-z_]+$")]
    pub kind: String,
    pub title: &'static str,
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    pub detail: &'a str,
    #[schema(value_type = Code)]
    pub code: &'static str,
    pub request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    pub errors: &'a [FieldError],
}

impl<'a> Problem<'a> {
    pub fn new(error: &'a Error, request_id: &'a str) -> Self {
        let Row { status, title, .. } = problems::row(error.code);
        Self {
            kind: problems::type_of(error.code),
            title,
            status: status.as_u16(),
            detail: &error.detail,
            code: error.code.as_str(),
            request_id,
            errors: &error.fields,
        }
    }
}

/// The finished answer for `error`.
pub fn problem_response(error: &Error, request_id: &str) -> HttpResponse {
    let mut response = HttpResponseBuilder::new(problems::row(error.code).status);
    if let Some(delay) = error.retry_after {
        response.insert_header((header::RETRY_AFTER, delay.as_secs().max(1).to_string()));
    }
    if matches!(error.code, Code::Unauthenticated | Code::InvalidToken | Code::TokenExpired) {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"millrace\""));
    }
    let body = serde_json::to_vec(&Problem::new(error, request_id)).expect("a problem has only text keys");
    response.content_type("application/problem+json").body(body)
}
