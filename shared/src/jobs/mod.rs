//! Jobs: what callers hand over to be done later, at least once. PostgreSQL holds the truth, Redis holds the race.
//!
//! In reading order: [`names`] and [`kinds`] (what a job may be called), [`raw_json`] (what a payload may hold),
//! [`new_job`] (a submit, checked), then one file per operation; `store` holds the SQL, `race` what is asked of Redis, `volatile` what Redis alone holds,
//! and [`engine`] runs the jobs. [`events`] tells what becomes of them, [`remote`] lets
//! workers outside this platform take them. [`batches`] counts jobs together, `dependencies` has jobs wait for others; what an end
//! leaves to be done for these is [`aftermath`].

pub mod aftermath;
pub mod attempts;
pub mod backend;
pub mod batches;
pub mod bulk;
pub mod cancel;
mod coalesce;
pub mod delete;
mod dependencies;
pub mod engine;
pub mod events;
pub mod kinds;
mod linked;
pub mod list;
mod local;
mod lookup;
pub mod names;
pub mod new_job;
mod outage;
pub mod platform;
pub mod queues;
mod race;
pub mod raw_json;
pub mod read;
pub mod remote;
pub mod retry;
mod store;
pub mod submit;
pub mod unique;
pub mod view;
mod volatile;
pub mod wait;
pub mod worker_orders;
pub mod workers;
mod write;

#[cfg(test)]
mod tests;

pub use attempts::{Attempt, AttemptOutcome};
pub use list::ListJobs;
pub use local::LocalJobs;
pub use lookup::LookupBatch;
pub use names::{JobKind, QueueName};
pub use new_job::{NewJob, Origin, SubmitJob, Unique};
pub use queues::QueueStats;

use crate::{
    Code, Error, Result,
    ids::{JobId, UserId},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::ToSchema;

macro_rules! states {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Where a job is in its life.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum JobState { $($(#[$doc])* $variant,)* }

        impl JobState {
            pub const ALL: &[JobState] = &[$(JobState::$variant,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(JobState::$variant => $text,)* }
            }
        }

        impl std::str::FromStr for JobState {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                match text {
                    $($text => Ok(JobState::$variant),)*
                    _ => Err(Error::new(Code::InvalidQuery, format!("There is no job state `{}`.", text.escape_debug()))),
                }
            }
        }
    };
}

states! {
    /// Runs at `run_at`, which is to come.
    Scheduled = "scheduled",
    /// Due, and waits for a worker.
    Queued = "queued",
    /// A worker holds its lease.
    Running = "running",
    /// Failed at least once; runs again at `run_at`.
    Retrying = "retrying",
    /// Parked until something else happens.
    Waiting = "waiting",
    Succeeded = "succeeded",
    /// The dead letter: it failed for good and is kept with its error.
    Dead = "dead",
    Cancelled = "cancelled",
    /// `expires_at` passed before it ran.
    Expired = "expired",
}

impl JobState {
    /// Whether the job is over; only a requeue brings a dead one back.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Succeeded | Self::Dead | Self::Cancelled | Self::Expired => true,
            Self::Scheduled | Self::Queued | Self::Running | Self::Retrying | Self::Waiting => false,
        }
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often and how late a failed job is tried again: `min(max_ms, base_ms · 2^(n-1))` with full jitter after failure n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetryPolicy {
    /// Tries in all, the first included. A job whose process crashed is tried again, alone, whatever this says: twice at most.
    #[schema(example = 4, minimum = 1, maximum = 100)]
    pub max_attempts: i32,
    /// Longest wait after the first failure.
    #[schema(example = 1_000, minimum = 1)]
    pub base_ms: i32,
    /// Longest wait after any failure.
    #[schema(example = 600_000, minimum = 1)]
    pub max_ms: i32,
}

impl RetryPolicy {
    /// Three retries after the first try, 1 s to 10 min apart.
    pub const DEFAULT: Self = Self { max_attempts: 4, base_ms: 1_000, max_ms: 600_000 };
}

/// Why the last attempt did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    #[schema(example = "handler_failed")]
    pub code: String,
    #[schema(example = "the mail server refused the recipient")]
    pub message: String,
}

impl JobError {
    /// Refuses one from outside, which the request has at the pointer `at`, that has no code.
    pub(crate) fn check(&self, at: &str) -> Result<()> {
        if self.code.trim().is_empty() {
            return Err(Error::invalid(format!("{at}/code"), "length", "must name the error: it is what is shown and counted"));
        }
        Ok(())
    }
}

/// How far a running attempt says it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// 0 to 100.
    #[schema(example = 40.0, minimum = 0, maximum = 100)]
    pub percent: f64,
    pub message: Option<String>,
}

/// A job as callers see it. Payload and result are the bytes that came in, never re-parsed.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da", "kind": "debug.echo", "queue": "default", "state": "succeeded", "priority": 4,
    "payload": {"hello": "world"}, "result": {"hello": "world"}, "error": null, "progress": null, "attempt": 1, "max_attempts": 4,
    "run_at": "2026-11-20T23:19:58.104Z", "created_at": "2026-11-20T23:19:58.104Z", "started_at": "2026-11-20T23:19:58.105Z",
    "finished_at": "2026-11-20T23:19:58.107Z", "expires_at": null, "tags": ["greeting"], "unique_key": null,
    "owner_id": "01a1fb40-0000-7000-8000-000000000001", "worker_id": "01a1fb3f-0000-7000-8000-000000000002",
    "request_id": "01a1fb40-f990-7000-8000-000000000003"
}))]
pub struct Job {
    pub id: JobId,
    pub kind: JobKind,
    pub queue: QueueName,
    pub state: JobState,
    /// 0 to 9, 9 is most urgent.
    #[schema(minimum = 0, maximum = 9)]
    pub priority: i16,
    #[schema(value_type = serde_json::Value)]
    pub payload: Box<RawValue>,
    /// What the handler returned, once succeeded.
    #[schema(value_type = Option<serde_json::Value>, required)]
    pub result: Option<Box<RawValue>>,
    #[schema(required)]
    pub error: Option<JobError>,
    #[schema(required)]
    pub progress: Option<Progress>,
    /// The running or last concluded delivery; 0 before the first. To be cancelled while it waits counts as one.
    pub attempt: i32,
    pub max_attempts: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub run_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[schema(required)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    #[schema(required)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    #[schema(required)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    pub tags: Vec<String>,
    #[schema(required)]
    pub unique_key: Option<String>,
    pub owner_id: UserId,
    /// Whose delivery that is; `api` where a job was cancelled while it waited.
    #[schema(required)]
    pub worker_id: Option<String>,
    #[schema(required)]
    pub request_id: Option<String>,
    /// `true` when a submit met this job by its unique key and made no new one; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}
