//! Batches: jobs that are counted together, with one more job when all have ended.
//!
//! In reading order: [`NewBatch`] and [`Batch`], [`operations`] (what callers do to batches), `counting` (what the ends of jobs come to),
//! `upkeep`, `store` (the SQL).
//!
//! Whoever adds or ends jobs of a batch only inserts what changes (`batch_changes`); whoever counts adds that to the batch's row, under
//! a lock that nobody else takes. A reader adds the two up, and so always sees true counts.

pub(super) mod counting;
pub mod operations;
pub(super) mod store;
pub mod upkeep;

use super::{JobError, SubmitJob};
use crate::{
    Error, Result,
    ids::{BatchId, JobId, UserId},
    json_fields,
    schedules::input::title,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use validator::Validate;

/// Most jobs that a batch is made with; more join it by their `batch_id`.
pub const JOBS_AT_ONCE: usize = 1_000;
/// One less than a job may have: the batch adds its own.
const TAGS_MAX: usize = 19;

/// A batch to be made. With `jobs` these are its jobs, all or none are taken, and it is closed unless `closed` is `false`. Without, it is
/// open: jobs join it by their `batch_id`, and it is closed with `POST /batches/{id}/close`.
#[derive(Debug, Clone, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "october invoices", "jobs": [{"kind": "debug.echo", "payload": 1}, {"kind": "debug.echo", "payload": 2}],
    "on_complete": {"kind": "debug.echo", "payload": "all sent"}}))]
pub struct NewBatch {
    #[validate(custom(function = "title"))]
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    pub name: Option<String>,
    #[schema(min_items = 1, max_items = 1_000)]
    pub jobs: Option<Vec<SubmitJob>>,
    /// A job that is submitted once, when the batch is closed and all its jobs have ended, however they did. It has the tag
    /// `batch:<id>`, and so at most 19 others.
    #[serde(default, deserialize_with = "json_fields::object")]
    pub on_complete: Option<SubmitJob>,
    /// Whether it takes no more jobs. When absent, `true` if there are `jobs`.
    pub closed: Option<bool>,
}

/// What a batch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BatchState {
    /// It takes jobs.
    Open,
    /// It takes no more, and some are to be done.
    Running,
    /// All have ended. A dead one that is requeued afterwards changes the counts, and nothing else.
    Completed,
}

/// How many of a batch's jobs are where. Deleted jobs are not counted, unless they had ended before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct BatchCounts {
    /// To be done, but neither running nor waiting for other jobs.
    pub pending: i32,
    /// Held by a worker and started; 0 while Redis is away.
    pub running: i32,
    /// Waiting for other jobs.
    pub waiting: i32,
    pub succeeded: i32,
    pub dead: i32,
    pub cancelled: i32,
    pub expired: i32,
}

impl BatchCounts {
    fn ended(&self) -> i32 {
        self.succeeded + self.dead + self.cancelled + self.expired
    }
}

/// A batch as callers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da", "name": "october invoices", "state": "running", "closed": true, "total": 2,
    "counts": {"pending": 1, "running": 0, "waiting": 0, "succeeded": 1, "dead": 0, "cancelled": 0, "expired": 0}, "progress": 50.0,
    "completion_job_id": null, "error": null, "owner_id": "01a1fb40-0000-7000-8000-000000000001",
    "created_at": "2026-11-20T23:19:58.104Z", "completed_at": null
}))]
pub struct Batch {
    pub id: BatchId,
    #[schema(required)]
    pub name: Option<String>,
    pub state: BatchState,
    pub closed: bool,
    pub total: i32,
    pub counts: BatchCounts,
    /// Percent of its jobs that have ended; of none, 100 once it is closed.
    #[schema(minimum = 0, maximum = 100)]
    pub progress: f64,
    /// The job that came of `on_complete`.
    #[schema(required)]
    pub completion_job_id: Option<JobId>,
    /// Why none came of it.
    #[schema(required)]
    pub error: Option<JobError>,
    pub owner_id: UserId,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[schema(required)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub completed_at: Option<OffsetDateTime>,
}

impl Batch {
    fn is_over(&self) -> bool {
        self.closed && self.counts.ended() == self.total
    }
}

/// A batch that was just made, and the jobs that it was made with.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MadeBatch {
    #[serde(flatten)]
    pub batch: Batch,
    /// Ids of `jobs`, in their order. Where a unique key was held, that of the job which holds it: it is no part of the batch.
    pub job_ids: Vec<JobId>,
}

impl NewBatch {
    fn check(&self) -> Result<()> {
        self.validate()?;
        if self.jobs.as_ref().is_some_and(|jobs| !(1..=JOBS_AT_ONCE).contains(&jobs.len())) {
            let detail = format!("must hold 1 to {JOBS_AT_ONCE} jobs; more join by their `batch_id`");
            return Err(Error::invalid("/jobs", "length", detail));
        }
        for (at, job) in self.jobs.iter().flatten().enumerate() {
            if job.batch_id.is_some() {
                return Err(Error::invalid(format!("/jobs/{at}/batch_id"), "exclusive", "must be absent: it is this batch"));
            }
        }
        self.on_complete.as_ref().map_or(Ok(()), check_completion)
    }
}

fn check_completion(on_complete: &SubmitJob) -> Result<()> {
    let refused = |pointer: &str, detail: &str| Err(Error::invalid(format!("/on_complete{pointer}"), "not_supported", detail));
    if on_complete.batch_id.is_some() {
        return refused("/batch_id", "cannot be had here");
    }
    if on_complete.has_dependencies() {
        return refused("/depends_on", "cannot be had here: it waits for the whole batch");
    }
    if on_complete.tags.as_ref().is_some_and(|tags| tags.len() > TAGS_MAX) {
        return refused("/tags", "must be at most 19: the batch adds its own");
    }
    Ok(())
}

/// The submit that a batch makes when it is complete.
fn completion_of(on_complete: &SubmitJob, id: BatchId) -> SubmitJob {
    let mut submit = on_complete.clone();
    submit.tags.get_or_insert_default().push(format!("batch:{id}"));
    submit
}
