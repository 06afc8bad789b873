//! The audit log: who did what to whom, written in the transaction of the deed.

use super::{Accounts, store, types::Origin};
use crate::{
    Caller, Result, Scope,
    ids::{ApiKeyId, AuditId, BatchId, EndpointId, FileId, ScheduleId, SessionId, TrackId, UserId, WorkerId},
    page::{Page, PageRequest},
};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgExecutor;
use std::net::IpAddr;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Entry {
    pub id: AuditId,
    /// Absent when nobody was signed in, or an operator did it at the machine.
    #[schema(required)]
    pub actor_id: Option<UserId>,
    #[schema(example = "login")]
    pub action: String,
    #[schema(example = "user")]
    pub subject_kind: String,
    #[schema(required)]
    pub subject_id: Option<Uuid>,
    /// What else there is to say; depends on the action.
    #[schema(value_type = Object)]
    pub detail: Value,
    #[schema(required)]
    pub request_id: Option<String>,
    #[schema(required, value_type = Option<String>, example = "192.0.2.7")]
    pub address: Option<IpAddr>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(format = "date-time", value_type = String)]
    pub created_at: OffsetDateTime,
}

macro_rules! actions {
    ($($variant:ident = $text:literal,)*) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Action { $($variant,)* }

        impl Action {
            pub const fn as_str(self) -> &'static str {
                match self { $(Action::$variant => $text,)* }
            }
        }
    };
}

actions! {
    Register = "register",
    Login = "login",
    LoginFailed = "login_failed",
    Logout = "logout",
    RefreshReused = "refresh_reused",
    SessionRevoked = "session_revoked",
    PasswordChanged = "password_changed",
    PasswordResetIssued = "password_reset_issued",
    PasswordReset = "password_reset",
    ApiKeyCreated = "api_key_created",
    ApiKeyRevoked = "api_key_revoked",
    UserChanged = "user_changed",
    AccountDeleted = "account_deleted",
    AdminCreated = "admin_created",
    DeadRequeued = "dead_requeued",
    DeadDeleted = "dead_deleted",
    QueueChanged = "queue_changed",
    QueuePaused = "queue_paused",
    QueueResumed = "queue_resumed",
    QueuePurged = "queue_purged",
    QueueDeleted = "queue_deleted",
    ScheduleDeleted = "schedule_deleted",
    BatchCancelled = "batch_cancelled",
    EndpointCreated = "endpoint_created",
    EndpointChanged = "endpoint_changed",
    EndpointPaused = "endpoint_paused",
    EndpointResumed = "endpoint_resumed",
    EndpointDisabled = "endpoint_disabled",
    EndpointDeleted = "endpoint_deleted",
    EndpointSecretRotated = "endpoint_secret_rotated",
    TokenIssued = "token_issued",
    ConnectionsClosed = "connections_closed",
    HistoryRemoved = "history_removed",
    SystemMessageSent = "system_message_sent",
    TrackDeleted = "track_deleted",
    FileDeleted = "file_deleted",
    DeadPointsRequeued = "dead_points_requeued",
    DeadPointsDeleted = "dead_points_deleted",
    WorkerQuieted = "worker_quieted",
    WorkerResumed = "worker_resumed",
    WorkerStopped = "worker_stopped",
}

/// To whom or what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    User(UserId),
    Session(SessionId),
    ApiKey(ApiKeyId),
    /// Named in the detail.
    Queue,
    Schedule(ScheduleId),
    Batch(BatchId),
    /// An instance of `millrace-jobs`; its name is in the detail.
    Worker(WorkerId),
    Endpoint(EndpointId),
    /// Named in the detail.
    Channel,
    /// Named in the detail; of a user who has no account with us, or of none.
    Connection,
    Track(TrackId),
    File(FileId),
    /// Those that the detail counts.
    Points,
    /// Of a failed sign-in with an address that nobody has; the address itself is not kept.
    Nobody,
}

impl Subject {
    fn parts(self) -> (&'static str, Option<Uuid>) {
        match self {
            Self::User(id) => ("user", Some(id.0)),
            Self::Session(id) => ("session", Some(id.0)),
            Self::ApiKey(id) => ("api_key", Some(id.0)),
            Self::Queue => ("queue", None),
            Self::Schedule(id) => ("schedule", Some(id.0)),
            Self::Batch(id) => ("batch", Some(id.0)),
            Self::Worker(id) => ("worker", Some(id.0)),
            Self::Endpoint(id) => ("endpoint", Some(id.0)),
            Self::Channel => ("channel", None),
            Self::Connection => ("connection", None),
            Self::Track(id) => ("track", Some(id.0)),
            Self::File(id) => ("file", Some(id.0)),
            Self::Points => ("points", None),
            Self::Nobody => ("user", None),
        }
    }
}

/// A deed on its way into the log.
#[derive(Debug, Clone)]
pub struct Deed<'a> {
    pub actor: Option<UserId>,
    pub action: Action,
    pub subject: Subject,
    pub detail: Value,
    pub origin: &'a Origin,
}

impl<'a> Deed<'a> {
    pub fn new(actor: impl Into<Option<UserId>>, action: Action, subject: Subject, origin: &'a Origin) -> Self {
        Self { actor: actor.into(), action, subject, detail: json!({}), origin }
    }

    /// What a caller does. The command line has no account, and is noted as nobody.
    pub fn by(caller: &Caller, action: Action, subject: Subject, origin: &'a Origin) -> Self {
        Self::new(Some(caller.user_id).filter(|id| !id.0.is_nil()), action, subject, origin)
    }

    #[must_use]
    pub fn with(self, detail: Value) -> Self {
        Self { detail, ..self }
    }
}

pub(crate) async fn record(db: impl PgExecutor<'_>, now: OffsetDateTime, deed: Deed<'_>) -> Result<()> {
    let (subject_kind, subject_id) = deed.subject.parts();
    let entry = Entry {
        id: AuditId::new(),
        actor_id: deed.actor,
        action: deed.action.as_str().to_owned(),
        subject_kind: subject_kind.to_owned(),
        subject_id,
        detail: deed.detail,
        request_id: deed.origin.request_id.clone(),
        address: deed.origin.address,
        created_at: now,
    };
    store::audit::insert(db, &entry).await
}

/// Newest first; administrators only.
pub async fn list_audit(accounts: &Accounts, caller: &Caller, page: &PageRequest) -> Result<Page<Entry>> {
    caller.require(Scope::Admin)?;
    let entries = store::audit::page(accounts.ctx.by_values(), page).await?;
    Ok(Page::from_rows(entries, page, |entry| entry.id.0))
}
