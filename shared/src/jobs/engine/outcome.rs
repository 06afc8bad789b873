//! How an attempt ends, and what follows from it for the job. Pure: no clock, no server, no randomness of its own.

use super::{copy::Standing, token::Token, volatile::Record};
use crate::jobs::{JobError, RetryPolicy, raw_json};
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;

/// Deliveries that came back without a failure, at most; one more and the job is dead.
pub const RETURNS_MAX: i32 = 20;
/// Crashes of a job's process while nothing else ran there; that many and it is dead.
pub const CRASHES_ALONE_MAX: i16 = 2;
/// Snoozes of one job, at most; one more and it is dead.
pub const SNOOZES_MAX: i32 = 100;

/// Who else ran in a process that crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// It was a child that runs suspects one at a time.
    Alone,
    Shared,
}

/// How a delivery ended. A handler returns one of the first four; the rest is what the stack around it adds.
#[derive(Debug)]
pub enum Outcome {
    /// It is done; the result is kept with the job.
    Done(Box<RawValue>),
    /// It failed; tried again after `after`, or after the retry policy's backoff.
    Retry { error: JobError, after: Option<Duration> },
    /// It is too early; no attempt is used.
    Snooze(Duration),
    /// What it needs is not there now, and is looked for by others: it costs the job nothing, however often.
    Postpone(Duration),
    /// It waits for a word from outside. Its row says so already, and refuses whatever is concluded of this delivery.
    Parked,
    /// It will never succeed: dead at once.
    Discard(JobError),
    /// The handler panicked, with this message.
    Panic(String),
    /// The attempt ran longer than it may.
    Timeout { limit: Duration },
    /// The worker was not heard of for a lease's length after it started.
    Lost,
    /// Its process ended under it, as `how` says. Whoever was `alone` there did it; of several, each is a suspect, which
    /// loses nothing but runs alone from then on.
    Crashed { how: String, company: Company },
    /// Deliveries came back without an outcome once too often: expired unstarted, or cut short by no fault of the job.
    Undeliverable,
    /// Its cancel was asked for before it ran, or the handler stopped for it.
    Cancelled,
    /// `expires_at` passed before it ran.
    Expired,
    /// The payload is not what the kind takes: dead at once.
    Undecodable(String),
    /// The result cannot be kept: dead at once.
    ResultRejected(String),
}

impl Outcome {
    pub fn retry(code: &str, message: impl Into<String>) -> Self {
        Self::Retry { error: job_error(code, message), after: None }
    }

    /// For logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Retry { .. } => "retry",
            Self::Snooze(_) => "snooze",
            Self::Postpone(_) => "postpone",
            Self::Parked => "parked",
            Self::Discard(_) => "discard",
            Self::Panic(_) => "panic",
            Self::Timeout { .. } => "timeout",
            Self::Lost => "lost",
            Self::Crashed { .. } => "crashed",
            Self::Undeliverable => "undeliverable",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Undecodable(_) => "undecodable",
            Self::ResultRejected(_) => "result_rejected",
        }
    }

    /// The outcome, or its rejection when it carries a result that cannot be kept.
    #[must_use]
    pub fn checked(self, max_result_bytes: usize) -> Self {
        let Self::Done(result) = &self else { return self };
        match raw_json::check(result.get(), "result", max_result_bytes) {
            Ok(()) => self,
            Err(error) => Self::ResultRejected(error.fields.first().map_or(error.detail.to_string(), |field| field.detail.clone())),
        }
    }
}

/// Longest error that is kept with a job, in bytes.
const ERROR_MAX: usize = 4_096;

pub(super) fn job_error(code: &str, message: impl Into<String>) -> JobError {
    JobError { code: code.to_owned(), message: message.into() }
}

/// Longest code of an error, in bytes: it is part of an index, and of a page's cursor.
const ERROR_CODE_MAX: usize = 100;

/// An error as PostgreSQL can keep it: no NUL, bounded.
fn storable(error: JobError) -> JobError {
    let clean = |text: String, bytes_max: usize| {
        let text = if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
        if text.len() > bytes_max { text[..text.floor_char_boundary(bytes_max)].to_owned() } else { text }
    };
    // Dead letters are asked for by their code, so each has one.
    let code = if error.code.is_empty() { "error".to_owned() } else { error.code };
    JobError { code: clean(code, ERROR_CODE_MAX), message: clean(error.message, ERROR_MAX) }
}

/// A delivery that is over, with what is needed to conclude it.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub token: Token,
    pub standing: Standing,
    pub retry: RetryPolicy,
    pub worker_id: String,
    /// `None` when it never started.
    pub started_at: Option<OffsetDateTime>,
    /// Of a job that has no row until it ends.
    pub record: Option<Arc<Record>>,
}

/// Where the row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// To `jobs_ended`, in this state.
    Ended(&'static str),
    /// Stays pending, to run then. A row whose cancel was asked for becomes cancelled instead.
    Pending { run_at: OffsetDateTime },
}

/// One line of the guarded statement.
#[derive(Debug)]
pub struct Conclusion {
    pub delivery: Delivery,
    /// The standing after it.
    pub standing: Standing,
    pub next: Next,
    pub error: Option<JobError>,
    pub result: Option<Box<RawValue>>,
    /// What `job_attempts` keeps; `None` for successes and for deliveries that do not count as tries.
    pub attempt_outcome: Option<&'static str>,
    pub finished_at: OffsetDateTime,
}

/// What `outcome` means for the job. `jitter` is in 0..1.
pub fn conclude(delivery: Delivery, outcome: Outcome, now: OffsetDateTime, jitter: f64) -> Conclusion {
    let lease_worker = delivery.worker_id.clone();
    let mut conclusion = Conclusion {
        standing: delivery.standing,
        delivery,
        next: Next::Ended("dead"),
        error: None,
        result: None,
        attempt_outcome: None,
        finished_at: now,
    };
    match outcome {
        Outcome::Done(result) => {
            conclusion.next = Next::Ended("succeeded");
            conclusion.result = Some(result);
        }
        Outcome::Retry { error, after } => fail(&mut conclusion, "failed", error, after, jitter),
        Outcome::Panic(message) => fail(&mut conclusion, "panic", job_error("panic", message), None, jitter),
        Outcome::Timeout { limit } => {
            let error = job_error("timeout", format!("the attempt ran longer than {} ms", limit.as_millis()));
            fail(&mut conclusion, "timeout", error, None, jitter);
        }
        Outcome::Lost => {
            let error = job_error("lost", format!("worker {lease_worker} was not heard of while it ran the job"));
            fail(&mut conclusion, "lost", error, None, jitter);
        }
        Outcome::Crashed { how, company } => crash(&mut conclusion, &how, company, jitter),
        Outcome::Snooze(pause) => snooze(&mut conclusion, pause),
        Outcome::Postpone(pause) => conclusion.next = Next::Pending { run_at: now + pause },
        Outcome::Parked => conclusion.next = Next::Pending { run_at: now },
        Outcome::Discard(error) => die(&mut conclusion, "failed", error),
        Outcome::Undecodable(message) => die(&mut conclusion, "failed", job_error("undecodable_payload", message)),
        Outcome::ResultRejected(message) => die(&mut conclusion, "failed", job_error("result_rejected", message)),
        Outcome::Undeliverable => {
            let message = format!("{} deliveries came back without an outcome", RETURNS_MAX + 1);
            die(&mut conclusion, "lost", job_error("undeliverable", message));
        }
        Outcome::Cancelled => {
            conclusion.next = Next::Ended("cancelled");
            // A delivery that never started leaves no trace but the state.
            conclusion.attempt_outcome = conclusion.delivery.started_at.map(|_| "cancelled");
        }
        Outcome::Expired => conclusion.next = Next::Ended("expired"),
    }
    conclusion
}

fn fail(conclusion: &mut Conclusion, outcome: &'static str, error: JobError, after: Option<Duration>, jitter: f64) {
    conclusion.standing.failures += 1;
    let retry = conclusion.delivery.retry;
    if conclusion.standing.failures < retry.max_attempts {
        let pause = after.unwrap_or_else(|| backoff(retry, conclusion.standing.failures, jitter));
        conclusion.next = Next::Pending { run_at: conclusion.finished_at + pause };
    }
    conclusion.attempt_outcome = Some(outcome);
    conclusion.error = Some(storable(error));
}

/// Spends the attempt's number and no failure. `crashes` is 1 for a suspect, and counts on with each crash alone.
fn crash(conclusion: &mut Conclusion, how: &str, company: Company, jitter: f64) {
    let suspect = conclusion.standing.crashes.max(1);
    conclusion.standing.crashes = match company {
        Company::Alone => suspect.saturating_add(1),
        Company::Shared => suspect,
    };
    let n_alone = conclusion.standing.crashes - 1;
    if n_alone >= CRASHES_ALONE_MAX {
        let message = format!("its process crashed {n_alone} times while it ran alone there: {how}");
        return die(conclusion, "crashed", job_error("poison", message));
    }
    // A suspect is most likely innocent and runs at once; one that crashed alone is most likely not.
    let pause = if n_alone == 0 { Duration::ZERO } else { backoff(conclusion.delivery.retry, n_alone.into(), jitter) };
    conclusion.next = Next::Pending { run_at: conclusion.finished_at + pause };
    conclusion.attempt_outcome = Some("crashed");
    conclusion.error = Some(storable(job_error("crashed", format!("the process that ran it ended: {how}"))));
}

fn snooze(conclusion: &mut Conclusion, pause: Duration) {
    conclusion.standing.snoozes += 1;
    if conclusion.standing.snoozes > SNOOZES_MAX {
        die(conclusion, "failed", job_error("too_many_snoozes", format!("the handler asked for later more than {SNOOZES_MAX} times")));
    } else {
        conclusion.next = Next::Pending { run_at: conclusion.finished_at + pause };
    }
}

fn die(conclusion: &mut Conclusion, outcome: &'static str, error: JobError) {
    conclusion.next = Next::Ended("dead");
    conclusion.attempt_outcome = Some(outcome);
    conclusion.error = Some(storable(error));
}

/// `min(max, base · 2^(n-1))` after failure `n`, with full jitter: anything from nothing to that.
fn backoff(retry: RetryPolicy, n_failures: i32, jitter: f64) -> Duration {
    let doublings = u32::try_from(n_failures - 1).unwrap_or(0).min(30);
    let longest_ms = (i64::from(retry.base_ms) << doublings).min(i64::from(retry.max_ms));
    let longest = Duration::from_millis(u64::try_from(longest_ms).unwrap_or(0));
    longest.mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
