//! From a stored row, and the lease that may lie over it, to the job that callers see.

use super::{Job, JobError, JobState, NewJob, engine::Lease, store::read::JobRow};
use crate::{Error, Result};
use time::OffsetDateTime;

/// The job as it was just written.
pub fn into_job(job: NewJob) -> Job {
    let state = state_of(&job);
    Job {
        id: job.id,
        kind: job.kind,
        queue: job.queue,
        state,
        priority: job.priority,
        payload: job.payload,
        result: None,
        error: None,
        progress: None,
        attempt: 0,
        max_attempts: job.retry.max_attempts,
        run_at: job.run_at,
        created_at: job.created_at,
        started_at: None,
        finished_at: None,
        expires_at: job.expires_at,
        tags: job.tags,
        unique_key: job.unique.map(|unique| unique.key),
        owner_id: job.owner_id,
        worker_id: None,
        request_id: job.request_id,
        duplicate: false,
    }
}

fn state_of(job: &NewJob) -> JobState {
    match (job.is_waiting(), job.run_at > job.created_at) {
        (true, _) => JobState::Waiting,
        (false, true) => JobState::Scheduled,
        (false, false) => JobState::Queued,
    }
}

impl JobRow {
    pub(super) fn is_live(&self) -> bool {
        self.finished_at.is_none()
    }

    pub(super) fn is_pending(&self) -> bool {
        self.state == "pending"
    }

    /// Parked until something else happens.
    pub(super) fn is_waiting(&self) -> bool {
        self.state == "waiting"
    }

    pub(super) fn into_job(self, lease: Option<Lease>, now: OffsetDateTime) -> Result<Job> {
        let mut job = Job {
            state: self.job_state(now)?,
            id: self.id,
            kind: self.kind.parse()?,
            queue: self.queue.parse()?,
            priority: self.priority,
            payload: self.payload.0,
            result: self.result.map(|json| json.0),
            error: self.error_code.map(|code| JobError { code, message: self.error_message.unwrap_or_default() }),
            progress: None,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            run_at: self.run_at,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            expires_at: self.expires_at,
            tags: self.tags,
            unique_key: self.unique_key,
            owner_id: self.owner_id,
            worker_id: self.worker_id,
            request_id: self.request_id,
            duplicate: false,
        };
        // A lease at or below the row's attempt is one that the row has already seen end.
        if let Some(lease) = lease.filter(|lease| lease.started && lease.attempt > job.attempt) {
            job.state = JobState::Running;
            job.attempt = lease.attempt;
            job.worker_id = Some(lease.worker_id);
            job.started_at = lease.since;
            job.progress = lease.progress;
        }
        Ok(job)
    }

    fn job_state(&self, now: OffsetDateTime) -> Result<JobState> {
        match self.state.as_str() {
            "pending" if self.run_at <= now => Ok(JobState::Queued),
            "pending" if self.failures > 0 => Ok(JobState::Retrying),
            "pending" => Ok(JobState::Scheduled),
            "waiting" => Ok(JobState::Waiting),
            ended => ended.parse().map_err(|error: Error| Error::internal(error)),
        }
    }
}
