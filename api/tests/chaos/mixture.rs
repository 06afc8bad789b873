//! What is submitted: by its number a job is of one class, and its class says how it may end.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// Jobs of one batch: most of them in one bulk request, the others one by one.
pub(crate) const BATCH: usize = 250;
/// Of each batch, submitted one by one with an Idempotency-Key.
pub(crate) const KEYED: usize = 5;
/// Of each batch, submitted one by one without a key, and so not again when the answer fails to come.
pub(crate) const PLAIN: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Its payload is its result.
    Echo,
    /// The same, in a payload too long for Redis.
    LargeEcho,
    Sleep,
    /// The same as [`Class::Echo`], due a little later.
    Delayed,
    /// Fails every attempt, of which it has two in quick succession.
    Fail,
    /// Urgent or not at all: due soon, and over soon after.
    Expires,
    /// Cancelled as soon as it is accepted.
    Cancel,
    /// Due in ten minutes, and cancelled before.
    CancelDelayed,
}

impl Class {
    pub(crate) const fn of(n: usize) -> Self {
        match n % 20 {
            0 => Self::Fail,
            1 | 2 => Self::Delayed,
            3 => Self::Expires,
            4 => Self::Cancel,
            5 => Self::CancelDelayed,
            6 => Self::LargeEcho,
            7..=12 => Self::Sleep,
            _ => Self::Echo,
        }
    }

    /// The states it may end in.
    pub(crate) const fn ends(self) -> &'static [&'static str] {
        match self {
            Self::Echo | Self::LargeEcho | Self::Sleep | Self::Delayed => &["succeeded"],
            Self::Fail => &["dead"],
            Self::Expires => &["succeeded", "expired"],
            // A worker may be faster than the cancel.
            Self::Cancel => &["succeeded", "cancelled"],
            Self::CancelDelayed => &["cancelled"],
        }
    }

    /// Whether a submit that had to be sent again may have come too late.
    pub(crate) const fn may_be_refused(self) -> bool {
        matches!(self, Self::Expires)
    }

    pub(crate) const fn is_cancelled(self) -> bool {
        matches!(self, Self::Cancel | Self::CancelDelayed)
    }
}

/// The submit of job `n`. Its payload tells which one it is.
pub(crate) fn submit(n: usize, now: OffsetDateTime) -> Value {
    let queue = if n.is_multiple_of(3) { "chaos" } else { "default" };
    let retry = json!({"max_attempts": 8, "base_ms": 20, "max_ms": 100});
    let mut job = json!({"kind": "debug.echo", "queue": queue, "payload": {"n": n}, "retry": retry, "priority": n % 10});
    match Class::of(n) {
        Class::Echo | Class::Cancel => {}
        Class::LargeEcho => job["payload"]["text"] = "x".repeat(2_000).into(),
        Class::Sleep => {
            job["kind"] = "debug.sleep".into();
            job["payload"] = json!({"ms": 5 + n % 20});
        }
        Class::Delayed => job["delay_ms"] = (200 + n % 2_000).into(),
        Class::Fail => {
            job["kind"] = "debug.fail".into();
            job["payload"] = json!({"message": n.to_string()});
            job["retry"]["max_attempts"] = 2.into();
        }
        Class::Expires => {
            let expires_at = now + Duration::milliseconds(100 + i64::try_from(n % 1_000).unwrap());
            job["expires_at"] = expires_at.format(&Rfc3339).unwrap().into();
            job["priority"] = 0.into();
        }
        Class::CancelDelayed => job["delay_ms"] = 600_000.into(),
    }
    job
}
