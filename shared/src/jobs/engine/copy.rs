//! What Redis holds of a job: the envelope, which never changes, and the standing, which every delivery changes.

use crate::{
    Error, Result,
    clock::{from_unix_ms, unix_ms},
    ids::{JobId, UserId},
    jobs::{JobKind, NewJob, RetryPolicy, queues::Durability},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};
use time::OffsetDateTime;

/// Largest payload that travels through Redis, in bytes; a worker fetches larger ones from PostgreSQL.
pub const INLINE_PAYLOAD_BYTES: usize = 1_024;

/// The counters of a job, and its priority, in the form that the scripts move around:
/// `<priority>:<attempt>:<failures>:<snoozes>:<returns>:<crashes>`. The last may be missing; the release before this one wrote five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub priority: i16,
    /// The ordinal of the delivery: rises with every lease.
    pub attempt: i32,
    /// What counts against `max_attempts`.
    pub failures: i32,
    pub snoozes: i32,
    /// Deliveries that came back without a failure; they are bounded too, and start anew when Redis is rebuilt.
    pub returns: i32,
    /// How often its process crashed while it ran: 0 is none; 1 makes it a suspect, which runs alone from then on; each crash
    /// alone adds one.
    pub crashes: i16,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority, attempt, failures, snoozes, returns, crashes } = self;
        write!(f, "{priority}:{attempt}:{failures}:{snoozes}:{returns}:{crashes}")
    }
}

impl FromStr for Standing {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let corrupt = || Error::internal(format!("`{text}` is not the standing of a job"));
        let mut numbers = text.split(':').map(str::parse::<i32>);
        let mut next = || numbers.next().and_then(std::result::Result::ok).ok_or_else(corrupt);
        let priority = i16::try_from(next()?).map_err(|_| corrupt())?;
        let standing = Self { priority, attempt: next()?, failures: next()?, snoozes: next()?, returns: next()?, crashes: 0 };
        let crashes = numbers.next().unwrap_or(Ok(0)).ok().and_then(|crashes| i16::try_from(crashes).ok());
        Ok(Self { crashes: crashes.ok_or_else(corrupt)?, ..standing })
    }
}

/// Everything a worker needs to run a job, on its way into Redis.
#[derive(Debug, Clone)]
pub struct Enqueue {
    pub id: JobId,
    pub owner_id: UserId,
    pub kind: JobKind,
    pub standing: Standing,
    pub run_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    pub timeout_ms: Option<i32>,
    pub retry: RetryPolicy,
    /// The payload if it is short; `None` lets the worker fetch it.
    pub payload: Option<Box<RawValue>>,
    pub request_id: Option<String>,
    pub traceparent: Option<String>,
    /// Whether the worker must see the row pending before it runs the job: for copies made later than the row.
    pub verify: bool,
    /// Of a job that has no row until it ends; its payload then is here, whatever its length.
    pub volatile: Option<Volatile>,
    /// It is leased only while this key has a free slot.
    pub concurrency_key: Option<String>,
}

/// What the row of a volatile job needs beside the rest of its envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volatile {
    #[serde(rename = "c")]
    pub created_at_ms: i64,
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl From<&NewJob> for Enqueue {
    fn from(job: &NewJob) -> Self {
        let volatile = match job.durability {
            Durability::Postgres => None,
            Durability::Redis => Some(Volatile { created_at_ms: unix_ms(job.created_at), tags: job.tags.clone() }),
        };
        Self {
            id: job.id,
            owner_id: job.owner_id,
            kind: job.kind.clone(),
            standing: Standing { priority: job.priority, attempt: 0, failures: 0, snoozes: 0, returns: 0, crashes: 0 },
            run_at: job.run_at,
            expires_at: job.expires_at,
            timeout_ms: job.timeout_ms,
            retry: job.retry,
            payload: if volatile.is_some() { Some(job.payload.clone()) } else { inline(&job.payload) },
            request_id: job.request_id.clone(),
            traceparent: job.traceparent.clone(),
            verify: false,
            volatile,
            concurrency_key: job.concurrency_key.clone(),
        }
    }
}

/// The payload as it goes into the envelope, if it is short enough.
pub(super) fn inline(payload: &RawValue) -> Option<Box<RawValue>> {
    (payload.get().len() <= INLINE_PAYLOAD_BYTES).then(|| payload.to_owned())
}

/// The kind of the job that this envelope is of, and how long an attempt of it may take.
pub(super) fn kind_and_limit(envelope: &[u8]) -> Option<(String, Option<Duration>)> {
    let envelope = serde_json::from_slice::<Envelope<'_>>(envelope).ok()?;
    let limit = envelope.timeout_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    Some((envelope.kind.into_owned(), limit))
}

/// The envelope in Redis. Short names: it is written and read once per job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(rename = "k", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(rename = "o")]
    pub(super) owner_id: UserId,
    #[serde(rename = "at")]
    pub(super) run_at_ms: i64,
    #[serde(rename = "ex", default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at_ms: Option<i64>,
    #[serde(rename = "to", default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout_ms: Option<i32>,
    /// max_attempts, base_ms, max_ms.
    #[serde(rename = "re")]
    pub(super) retry: (i32, i32, i32),
    #[serde(rename = "p", default, borrow, skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<&'a RawValue>,
    #[serde(rename = "rq", default, borrow, skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<Cow<'a, str>>,
    #[serde(rename = "tp", default, borrow, skip_serializing_if = "Option::is_none")]
    pub(super) traceparent: Option<Cow<'a, str>>,
    #[serde(rename = "v", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) verify: bool,
    #[serde(rename = "vo", default, skip_serializing_if = "Option::is_none")]
    pub(super) volatile: Option<Volatile>,
}

impl Envelope<'_> {
    pub(super) fn expires_at(&self) -> Option<OffsetDateTime> {
        self.expires_at_ms.and_then(from_unix_ms)
    }

    pub(super) fn retry(&self) -> RetryPolicy {
        let (max_attempts, base_ms, max_ms) = self.retry;
        RetryPolicy { max_attempts, base_ms, max_ms }
    }
}

impl Enqueue {
    pub(super) fn envelope(&self) -> String {
        let envelope = Envelope {
            kind: self.kind.as_str().into(),
            owner_id: self.owner_id,
            run_at_ms: unix_ms(self.run_at),
            expires_at_ms: self.expires_at.map(unix_ms),
            timeout_ms: self.timeout_ms,
            retry: (self.retry.max_attempts, self.retry.base_ms, self.retry.max_ms),
            payload: self.payload.as_deref(),
            request_id: self.request_id.as_deref().map(Into::into),
            traceparent: self.traceparent.as_deref().map(Into::into),
            verify: self.verify,
            volatile: self.volatile.clone(),
        };
        serde_json::to_string(&envelope).expect("an envelope has no maps and no floats")
    }
}

#[cfg(test)]
mod tests {
    use super::Standing;

    #[test]
    fn a_standing_reads_as_it_was_written_and_five_numbers_read_as_no_crash() {
        let standing = Standing { priority: 9, attempt: 7, failures: 1, snoozes: 2, returns: 3, crashes: 2 };
        assert_eq!(standing.to_string(), "9:7:1:2:3:2");
        assert_eq!(standing.to_string().parse::<Standing>().unwrap(), standing);
        assert_eq!("9:7:1:2:3".parse::<Standing>().unwrap(), Standing { crashes: 0, ..standing });
        for corrupt in ["", "9:7:1:2", "9:7:1:2:3:", "9:7:1:2:3:x", "9:7:1:2:3:99999"] {
            assert!(corrupt.parse::<Standing>().is_err(), "{corrupt}");
        }
    }
}
