//! The one table from a domain code to its HTTP status, title and advice. `docs/PROBLEMS.md` is made from it.

use actix_web::http::StatusCode;
use shared::Code;
use std::fmt::Write;

/// What the caller may do about a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The same request will be refused again.
    Change,
    /// Sign in again or refresh, then repeat.
    SignIn,
    /// Repeat after `Retry-After`, with growing pauses.
    Retry,
    /// Look at the present state first.
    Look,
}

impl Advice {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Change => "Change the request; repeating it as it is fails again.",
            Self::SignIn => "Sign in or refresh the token, then repeat.",
            Self::Retry => "Repeat after `Retry-After`, with growing pauses.",
            Self::Look => "Read the present state, then decide.",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub status: StatusCode,
    pub title: &'static str,
    pub advice: Advice,
}

pub const fn row(code: Code) -> Row {
    use Advice::{Change, Look, Retry, SignIn};
    use StatusCode as S;
    const fn row(status: StatusCode, title: &'static str, advice: Advice) -> Row {
        Row { status, title, advice }
    }
    match code {
        Code::InvalidJson => row(S::BAD_REQUEST, "The body is not the JSON that was asked for", Change),
        Code::JsonTooDeep => row(S::BAD_REQUEST, "The JSON is nested too deeply", Change),
        Code::InvalidCsv => row(S::BAD_REQUEST, "The body is not the CSV that was asked for", Change),
        Code::InvalidGpx => row(S::BAD_REQUEST, "The body is not the GPX that was asked for", Change),
        Code::InvalidMultipart => row(S::BAD_REQUEST, "The body is not the form that was asked for", Change),
        Code::InvalidQuery => row(S::BAD_REQUEST, "The query is not what was asked for", Change),
        Code::InvalidHeader => row(S::BAD_REQUEST, "A header is not what was asked for", Change),
        Code::InvalidCursor => row(S::BAD_REQUEST, "The cursor is unknown", Change),
        Code::Unauthenticated => row(S::UNAUTHORIZED, "Credentials are needed", SignIn),
        Code::InvalidToken => row(S::UNAUTHORIZED, "The token or key is not valid", SignIn),
        Code::TokenExpired => row(S::UNAUTHORIZED, "The token has expired", SignIn),
        Code::InvalidCredentials => row(S::UNAUTHORIZED, "E-mail address or password is wrong", Change),
        Code::InvalidRefreshToken => row(S::UNAUTHORIZED, "The refresh token is not valid", SignIn),
        Code::Forbidden => row(S::FORBIDDEN, "This is not allowed", Change),
        Code::InsufficientScope => row(S::FORBIDDEN, "The credentials lack a scope", Change),
        Code::RegistrationClosed => row(S::FORBIDDEN, "Registration is closed", Change),
        Code::NotFound => row(S::NOT_FOUND, "There is no such thing", Change),
        Code::Gone => row(S::GONE, "It was there, and is gone", Change),
        Code::MethodNotAllowed => row(S::METHOD_NOT_ALLOWED, "The method is not allowed here", Change),
        Code::Conflict => row(S::CONFLICT, "The request conflicts with the present state", Look),
        Code::EmailTaken => row(S::CONFLICT, "The e-mail address has an account", Change),
        Code::LastAdmin => row(S::CONFLICT, "The last admin must stay", Change),
        Code::IdempotencyInProgress => row(S::CONFLICT, "The first request with this key is still running", Retry),
        Code::JobFinished => row(S::CONFLICT, "The job has finished", Look),
        Code::JobNotDead => row(S::CONFLICT, "The job is not dead", Look),
        Code::JobRunning => row(S::CONFLICT, "The job is running", Look),
        Code::LeaseLost => row(S::CONFLICT, "The lease is lost", Look),
        Code::DuplicateJob => row(S::CONFLICT, "A job with this unique key exists", Look),
        Code::BatchClosed => row(S::CONFLICT, "The batch takes no more jobs", Look),
        Code::EndpointMoved => row(S::CONFLICT, "The endpoint has moved away from what headers were given for", Look),
        Code::QuotaExceeded => row(S::CONFLICT, "The quota is used up", Look),
        Code::PreconditionFailed => row(S::PRECONDITION_FAILED, "The object has changed", Look),
        Code::RequestTimeout => row(S::REQUEST_TIMEOUT, "The request took too long to arrive", Retry),
        Code::BodyTooLarge => row(S::PAYLOAD_TOO_LARGE, "The body is too large", Change),
        Code::UnsupportedMediaType => row(S::UNSUPPORTED_MEDIA_TYPE, "The content type is not supported", Change),
        Code::RangeNotSatisfiable => row(S::RANGE_NOT_SATISFIABLE, "The range lies outside of the content", Look),
        Code::ValidationFailed => row(S::UNPROCESSABLE_ENTITY, "The request breaks a rule", Change),
        Code::InvalidText => row(S::UNPROCESSABLE_ENTITY, "A text holds characters that cannot be stored", Change),
        Code::IdempotencyKeyReused => row(S::UNPROCESSABLE_ENTITY, "The Idempotency-Key was used with another body", Change),
        Code::UnknownKind => row(S::UNPROCESSABLE_ENTITY, "There is no such job kind", Change),
        Code::PayloadTooLarge => row(S::UNPROCESSABLE_ENTITY, "The payload is too large", Change),
        Code::RateLimited => row(S::TOO_MANY_REQUESTS, "Too many requests", Retry),
        Code::QueueFull => row(S::TOO_MANY_REQUESTS, "The queue is full", Retry),
        Code::Overloaded => row(S::SERVICE_UNAVAILABLE, "Too much is going on", Retry),
        Code::IngestFull => row(S::SERVICE_UNAVAILABLE, "Too many points wait to be stored", Retry),
        Code::Internal => row(S::INTERNAL_SERVER_ERROR, "Something failed on our side", Retry),
        Code::Draining => row(S::SERVICE_UNAVAILABLE, "This process is stopping", Retry),
        Code::DatabaseUnavailable => row(S::SERVICE_UNAVAILABLE, "The database is away", Retry),
        Code::RedisUnavailable => row(S::SERVICE_UNAVAILABLE, "Redis is away", Retry),
        Code::StorageUnavailable => row(S::SERVICE_UNAVAILABLE, "The store of files is away", Retry),
        Code::StorageFull => row(S::INSUFFICIENT_STORAGE, "The store of files is full", Retry),
        Code::FileLost => row(S::INTERNAL_SERVER_ERROR, "The file's content is lost", Look),
        Code::DeadlineExceeded => row(S::GATEWAY_TIMEOUT, "The request took too long", Retry),
    }
}

/// The `type` of its problems: where [`get_problem_type`](crate::routes::about::get_problem_type) explains it.
pub fn type_of(code: Code) -> String {
    format!("/problems/{code}")
}

/// The code for a status that a layer below us answered with, without a problem of its own.
pub fn code_for(status: StatusCode) -> Code {
    match status.as_u16() {
        401 => Code::Unauthenticated,
        403 => Code::Forbidden,
        404 => Code::NotFound,
        405 => Code::MethodNotAllowed,
        408 => Code::RequestTimeout,
        410 => Code::Gone,
        413 => Code::BodyTooLarge,
        415 => Code::UnsupportedMediaType,
        429 => Code::RateLimited,
        400..=499 => Code::InvalidHeader,
        503 => Code::Overloaded,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

/// `docs/PROBLEMS.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Problems\n\nEvery 4xx and 5xx answer to a request is `application/problem+json` (RFC 9457); what is no HTTP request gets a 400, 408 or 431 without a body. `type` is `/problems/<code>`, a path\n\
         of the API itself: `GET` it for the row below as JSON. Go by `code`.\n\
         This page is made from the table in `api/src/problems.rs` by `millrace-api openapi --problems`.\n\n\
         | code | status | title | what to do |\n|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let Row { status, title, advice } = row(*code);
        writeln!(text, "| `{code}` | {} | {title} | {} |", status.as_u16(), advice.text()).expect("writing to a string cannot fail");
    }
    text
}
