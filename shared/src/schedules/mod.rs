//! Schedules: jobs that are submitted again and again, by cron expression or period.
//!
//! In reading order: `expression` and [`rule`] (when one fires), [`input`] (what callers send), [`operations`] (what they do to
//! schedules), [`fire`] (what the leader does with those that are due), [`builtin`] (the platform's own), `store` (the SQL).
//!
//! A schedule is a row; nothing of it is in Redis or in a worker's memory. Each occurrence is written once, under a key, in the
//! transaction that writes its job and moves the schedule on, so that two leaders at once, or one that is killed, do no harm.

pub mod builtin;
mod expression;
pub mod fire;
pub mod input;
pub mod operations;
pub mod rule;
mod store;

#[cfg(test)]
mod tests;

pub use input::{NewSchedule, NextQuery, PatchSchedule, ScheduledJob};

use crate::{
    Result,
    ids::{JobId, ScheduleId, UserId},
    jobs::JobError,
};
use rule::Rule;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

/// What happens when a schedule fires while a job of its is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Overlap {
    /// Another one is submitted beside it.
    #[default]
    Allow,
    /// This occurrence is left out.
    Skip,
    /// It is cancelled, and another one submitted.
    CancelOld,
}

/// A schedule as callers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da", "name": "nightly report", "kind": "debug.echo", "queue": "default",
    "payload": {"report": "sales"}, "job": {"priority": 2}, "cron": "30 2 * * *", "every_ms": null, "timezone": "Europe/Berlin",
    "overlap": "skip", "catch_up": false, "paused": false, "next_run_at": "2026-11-22T01:30:00Z",
    "last_run_at": "2026-11-21T01:30:00Z", "last_job_id": "01a1fb40-0000-7000-8000-000000000002", "last_error": null,
    "owner_id": "01a1fb40-0000-7000-8000-000000000001", "created_at": "2026-11-20T23:19:58.104Z"
}))]
pub struct Schedule {
    pub id: ScheduleId,
    pub name: String,
    pub kind: String,
    pub queue: String,
    #[schema(value_type = serde_json::Value)]
    pub payload: Box<RawValue>,
    /// Headers of its `target` are shown as those of endpoints are: `***` for what is a secret by its name. These are for
    /// the origin that the endpoint had when they were given: once it has left that, `last_error` says `endpoint_moved`, and no job is made.
    #[serde(serialize_with = "ScheduledJob::serialize_shown")]
    pub job: ScheduledJob,
    /// Where the endpoint of its `target` led when headers of that were given which are not shown, and go to no other origin.
    #[serde(skip)]
    pub target_origin: Option<String>,
    #[schema(required)]
    pub cron: Option<String>,
    #[schema(required)]
    pub every_ms: Option<i64>,
    pub timezone: String,
    pub overlap: Overlap,
    pub catch_up: bool,
    pub paused: bool,
    /// `null` while it is paused.
    #[schema(required)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_run_at: Option<OffsetDateTime>,
    /// The occurrence that fired last.
    #[schema(required)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_run_at: Option<OffsetDateTime>,
    /// The last job that was made of it.
    #[schema(required)]
    pub last_job_id: Option<JobId>,
    /// Why no job came of the occurrence that fired last; `null` when one did.
    #[schema(required)]
    pub last_error: Option<JobError>,
    /// `null` for the platform's own schedules.
    #[schema(required)]
    pub owner_id: Option<UserId>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

impl Schedule {
    /// What callers set, as they see it, and nothing that changes by itself: what `If-Match` names. A tag of values that are not shown
    /// would let them be guessed.
    pub fn settings(&self) -> impl Serialize {
        let what = (&self.name, &self.kind, &self.queue, &self.payload, self.job.shown());
        (what, &self.cron, self.every_ms, &self.timezone, self.overlap, self.catch_up, self.paused)
    }

    fn rule(&self, now: OffsetDateTime) -> Result<Rule> {
        match (&self.cron, self.every_ms) {
            (Some(cron), _) => Rule::cron(cron, &self.timezone, now),
            (None, every_ms) => Ok(Rule::every(Duration::milliseconds(every_ms.unwrap_or(i64::MAX)))),
        }
    }

    /// The tag that all its jobs have.
    fn tag(&self) -> String {
        format!("schedule:{}", self.id)
    }
}
