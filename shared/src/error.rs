//! The closed list of things that can go wrong, in words a caller may see.
//! It knows no HTTP: one table at the API edge maps each [`Code`] to a status, a title and retry advice.

mod told;

use std::{borrow::Cow, fmt, time::Duration};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($variant:ident = $text:literal,)*) => {
        /// Why an operation was refused or failed. The text form is stable and part of the public contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($variant,)* }

        impl Code {
            /// Every code, in the order of the public list.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }
        }
    };
}

codes! {
    // The bytes are not what was asked for.
    InvalidJson = "invalid_json",
    JsonTooDeep = "json_too_deep",
    InvalidCsv = "invalid_csv",
    InvalidGpx = "invalid_gpx",
    InvalidMultipart = "invalid_multipart",
    InvalidQuery = "invalid_query",
    InvalidHeader = "invalid_header",
    InvalidCursor = "invalid_cursor",
    // Who are you?
    Unauthenticated = "unauthenticated",
    InvalidToken = "invalid_token",
    TokenExpired = "token_expired",
    InvalidCredentials = "invalid_credentials",
    InvalidRefreshToken = "invalid_refresh_token",
    // You may not.
    Forbidden = "forbidden",
    InsufficientScope = "insufficient_scope",
    RegistrationClosed = "registration_closed",
    // There is no such thing.
    NotFound = "not_found",
    Gone = "gone",
    MethodNotAllowed = "method_not_allowed",
    // Not now, as things stand.
    Conflict = "conflict",
    EmailTaken = "email_taken",
    LastAdmin = "last_admin",
    IdempotencyInProgress = "idempotency_in_progress",
    JobFinished = "job_finished",
    JobNotDead = "job_not_dead",
    JobRunning = "job_running",
    LeaseLost = "lease_lost",
    DuplicateJob = "duplicate_job",
    BatchClosed = "batch_closed",
    EndpointMoved = "endpoint_moved",
    QuotaExceeded = "quota_exceeded",
    PreconditionFailed = "precondition_failed",
    // The body's envelope.
    RequestTimeout = "request_timeout",
    BodyTooLarge = "body_too_large",
    UnsupportedMediaType = "unsupported_media_type",
    RangeNotSatisfiable = "range_not_satisfiable",
    // It parses, but breaks a rule.
    ValidationFailed = "validation_failed",
    InvalidText = "invalid_text",
    IdempotencyKeyReused = "idempotency_key_reused",
    UnknownKind = "unknown_kind",
    PayloadTooLarge = "payload_too_large",
    // Too much.
    RateLimited = "rate_limited",
    QueueFull = "queue_full",
    Overloaded = "overloaded",
    IngestFull = "ingest_full",
    // Ours to mend.
    Internal = "internal",
    Draining = "draining",
    DatabaseUnavailable = "database_unavailable",
    RedisUnavailable = "redis_unavailable",
    StorageUnavailable = "storage_unavailable",
    StorageFull = "storage_full",
    FileLost = "file_lost",
    DeadlineExceeded = "deadline_exceeded",
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let codes = Self::ALL.iter().map(|code| code.as_str());
        let description = Some("Why a request was refused or failed.");
        ObjectBuilder::new().schema_type(Type::String).description(description).enum_values(Some(codes)).into()
    }
}

impl ToSchema for Code {
    fn name() -> Cow<'static, str> {
        "ProblemCode".into()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a refusal with `fields` says besides. Its words are for clients: a command line has no body.
pub(crate) const BROKEN_RULE: &str = "The body breaks a rule.";

/// One broken rule, and where: `pointer` is an RFC 6901 pointer into the body (`""` is the whole body).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldError {
    #[schema(example = "/email")]
    pub pointer: String,
    #[schema(example = "email")]
    pub code: String,
    #[schema(example = "is not an e-mail address")]
    pub detail: String,
}

/// A refusal or failure: the outside words, and the inside cause that only the log sees.
#[derive(Debug)]
pub struct Error {
    pub code: Code,
    /// One sentence for the caller; never holds the cause of a failure of ours.
    pub detail: Cow<'static, str>,
    pub fields: Vec<FieldError>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), fields: Vec::new(), retry_after: None, cause: None }
    }

    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Code::Internal, "Something failed on our side; the request id finds it in the logs.").caused_by(cause)
    }

    pub fn not_found(noun: &str) -> Self {
        Self::new(Code::NotFound, format!("There is no such {noun}, or it is not yours."))
    }

    pub fn invalid(pointer: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Code::ValidationFailed, BROKEN_RULE).with_field(pointer, code, detail)
    }

    #[must_use]
    pub fn with_field(mut self, pointer: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        self.fields.push(FieldError { pointer: pointer.into(), code: code.into(), detail: detail.into() });
        self
    }

    /// Whether trying again would come to the same, as far as we know: the failure is not ours, and no server was away.
    pub fn is_refusal(&self) -> bool {
        !matches!(
            self.code,
            Code::Internal
                | Code::Draining
                | Code::DatabaseUnavailable
                | Code::RedisUnavailable
                | Code::StorageUnavailable
                | Code::StorageFull
                | Code::FileLost
                | Code::DeadlineExceeded
                | Code::Overloaded
        )
    }

    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Those words say no more than the code where a cause follows.
        match &self.cause {
            Some(_) if self.code == Code::Internal => write!(f, "{}", self.code)?,
            Some(_) | None => write!(f, "{}: {}", self.code, self.detail)?,
        }
        for cause in told::said_once(self.causes().map(ToString::to_string)) {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::from_sqlx(&error).caused_by(error)
    }
}

impl Error {
    /// The outside words for what the database said, without the cause.
    pub(crate) fn from_sqlx(error: &sqlx::Error) -> Self {
        let database_code = error.as_database_error().and_then(|e| e.code());
        let error_of = |code, detail: &'static str| Self::new(code, detail).retry_after(Duration::from_secs(1));
        match (error, database_code.as_deref()) {
            // 57014: statement_timeout; 55P03: lock_timeout.
            (_, Some("57014" | "55P03")) => error_of(Code::DeadlineExceeded, "The database took too long to answer."),
            // 40P01: two statements waited for each other, and this one was chosen to end it.
            (_, Some("40P01")) => error_of(Code::Overloaded, "Another request was in the way; the same one passes when repeated."),
            // 23503: what belongs to a user who is not there. Who asks for that was let in, and has been deleted since.
            (sqlx::Error::Database(cause), Some("23503")) if cause.constraint().is_some_and(is_about_users) => {
                Self::new(Code::InvalidToken, "The account does not exist any more.")
            }
            // 22021, 22P05: bytes that PostgreSQL cannot hold as text (NUL among them).
            (_, Some("22021" | "22P05")) => Self::new(Code::InvalidText, "A text holds characters that cannot be stored."),
            // Class 57P: shutting down or starting; 53: out of connections, memory or disk; 08: connection; 25006: a standby.
            (_, Some(code)) if code.starts_with("57P") || code.starts_with("53") || code.starts_with("08") || code == "25006" => {
                error_of(Code::DatabaseUnavailable, "The database cannot be reached at the moment.")
            }
            (
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::WorkerCrashed,
                _,
            ) => error_of(Code::DatabaseUnavailable, "The database cannot be reached at the moment."),
            _ => Self::new(Code::Internal, "Something failed on our side; the request id finds it in the logs."),
        }
    }
}

fn is_about_users(foreign_key: &str) -> bool {
    ["_owner_id_fkey", "_user_id_fkey", "_submitted_by_fkey"].iter().any(|name| foreign_key.ends_with(name))
}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        let away = error.is_io_error()
            || error.is_timeout()
            || error.is_connection_dropped()
            || error.is_connection_refusal()
            || error.is_cluster_error()
            || matches!(
                error.code(),
                Some("LOADING" | "READONLY" | "MASTERDOWN" | "OOM" | "MISCONF" | "NOSCRIPT" | "TRYAGAIN" | "NOREPLICAS")
            );
        if away {
            Self::new(Code::RedisUnavailable, "Redis cannot be reached at the moment.").retry_after(Duration::from_secs(1)).caused_by(error)
        } else {
            Self::internal(error)
        }
    }
}
