//! The kinds that run in our own workers, one line each.
//!
//! To add one: its line here, its payload and handler in `jobs/src/handlers/`, and its line in the worker's registry.

use super::{JobKind, RetryPolicy};
use crate::{Caller, Code, Error, Result, Scope, ai, config::Profile, endpoints, files::inspect, mail, points::import, tracks::report};
use serde_json::value::RawValue;
use std::time::Duration;

/// Who may submit a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitters {
    /// Anyone with `jobs:write`.
    Everyone,
    /// Everyone in development, operators elsewhere.
    OperatorsOutsideDevelopment,
    /// Operators, everywhere.
    Operators,
    /// Everyone in development; elsewhere the kind does not exist.
    DevelopmentOnly,
    /// The platform itself.
    Platform,
}

/// What is known of a kind without running it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub name: &'static str,
    pub submitters: Submitters,
    /// Longest an attempt may run unless the submit says otherwise; `None` leaves it to the worker's limit.
    pub timeout: Option<Duration>,
    /// The kind's own retry policy; `None` leaves it to the queue.
    pub retry: Option<RetryPolicy>,
    pub payload: Payload,
    /// What a key needs beside `jobs:write` to submit it, and to have it run again: what it does is done in the owner's name.
    pub scopes: &'static [Scope],
}

/// What a submit's payload is checked for; the handler checks the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    Unchecked,
    /// Names channels that the caller may publish on.
    Publication,
    /// A mail, while there is a server to send it.
    Mail,
    /// What a language model is asked, while there is one.
    Prompt,
    /// Names a file that the caller may read.
    File,
    /// A file of the caller's with points.
    Import,
    /// Tracks that the caller may read, and a time.
    Report,
}

impl Kind {
    /// Refuses callers who lack a scope that the kind takes.
    fn require_scopes(&self, caller: &Caller, payload: Option<&RawValue>) -> Result<()> {
        self.scopes.iter().try_for_each(|scope| caller.require(*scope))?;
        if self.payload == Payload::File && payload.is_some_and(inspect::makes_file) {
            caller.require(Scope::FilesWrite)?;
        }
        Ok(())
    }

    fn is_for_operators(&self, profile: Profile) -> bool {
        match self.submitters {
            Submitters::Operators => true,
            Submitters::OperatorsOutsideDevelopment => !profile.is_development(),
            Submitters::Everyone | Submitters::DevelopmentOnly | Submitters::Platform => false,
        }
    }

    pub(super) fn timeout_ms(&self) -> Option<i32> {
        self.timeout.map(|timeout| i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
    }
}

const fn debug(name: &'static str, submitters: Submitters) -> Kind {
    Kind { name, submitters, timeout: None, retry: None, payload: Payload::Unchecked, scopes: &[] }
}

/// One that is late says nothing any more: the next one does.
const HEARTBEAT: Kind = Kind {
    name: "system.heartbeat",
    submitters: Submitters::Operators,
    timeout: Some(Duration::from_secs(10)),
    retry: Some(RetryPolicy { max_attempts: 1, ..RetryPolicy::DEFAULT }),
    payload: Payload::Unchecked,
    scopes: &[],
};

/// All tries within a few minutes: channels remember the job for an hour.
const PUBLISH: Kind = Kind {
    name: "channel.publish",
    submitters: Submitters::Everyone,
    timeout: Some(Duration::from_secs(60)),
    retry: Some(RetryPolicy { max_attempts: 8, base_ms: 1_000, max_ms: 60_000 }),
    payload: Payload::Publication,
    scopes: &[Scope::ChannelsPublish],
};

/// Mail servers ask to be tried again for hours (greylisting, limits): about a day in all.
const MAIL: Kind = Kind {
    name: mail::SEND,
    submitters: Submitters::Operators,
    timeout: Some(Duration::from_secs(60)),
    retry: Some(RetryPolicy { max_attempts: 20, base_ms: 5_000, max_ms: 2 * 3_600_000 }),
    payload: Payload::Mail,
    scopes: &[],
};

/// Whoever waits for it asks again before long.
const PASSWORD_RESET: Kind = Kind {
    name: mail::PASSWORD_RESET,
    submitters: Submitters::Platform,
    retry: Some(RetryPolicy { max_attempts: 6, base_ms: 5_000, max_ms: 60_000 }),
    payload: Payload::Unchecked,
    ..MAIL
};

/// Tries over half a day: receivers are down for hours.
const REQUEST: Kind = Kind {
    name: endpoints::KIND,
    submitters: Submitters::Everyone,
    timeout: None,
    retry: Some(RetryPolicy { max_attempts: 12, base_ms: 30_000, max_ms: 6 * 3_600_000 }),
    payload: Payload::Unchecked,
    scopes: &[],
};

/// Whoever asked waits for it: a few tries within minutes. How long one may take is a setting.
const COMPLETE: Kind = Kind {
    name: ai::KIND,
    submitters: Submitters::Everyone,
    timeout: None,
    retry: Some(RetryPolicy { max_attempts: 4, base_ms: 2_000, max_ms: 60_000 }),
    payload: Payload::Prompt,
    scopes: &[],
};

/// A store that is away is back within minutes; so is room for one more image.
const INSPECT: Kind = Kind {
    name: inspect::KIND,
    submitters: Submitters::Everyone,
    timeout: Some(Duration::from_mins(5)),
    retry: Some(RetryPolicy { max_attempts: 6, base_ms: 2_000, max_ms: 120_000 }),
    payload: Payload::File,
    scopes: &[Scope::FilesRead],
};

/// It waits while the points before it are stored, and a large file has many. A run that is repeated begins anew.
const IMPORT: Kind = Kind {
    name: import::KIND,
    submitters: Submitters::Everyone,
    timeout: Some(Duration::from_hours(1)),
    retry: Some(RetryPolicy { max_attempts: 6, base_ms: 5_000, max_ms: 300_000 }),
    payload: Payload::Import,
    scopes: &[Scope::FilesRead, Scope::TracksWrite],
};

const REPORT: Kind = Kind {
    name: report::KIND,
    submitters: Submitters::Everyone,
    timeout: Some(Duration::from_mins(10)),
    retry: Some(RetryPolicy { max_attempts: 6, base_ms: 5_000, max_ms: 300_000 }),
    payload: Payload::Report,
    scopes: &[Scope::TracksRead, Scope::FilesWrite],
};

pub static KINDS: &[Kind] = &[
    PUBLISH,
    INSPECT,
    REQUEST,
    HEARTBEAT,
    MAIL,
    PASSWORD_RESET,
    COMPLETE,
    IMPORT,
    REPORT,
    debug("debug.echo", Submitters::OperatorsOutsideDevelopment),
    debug("debug.sleep", Submitters::OperatorsOutsideDevelopment),
    debug("debug.fail", Submitters::OperatorsOutsideDevelopment),
    debug("debug.crash", Submitters::DevelopmentOnly),
    debug("debug.block", Submitters::DevelopmentOnly),
    debug("debug.leak", Submitters::DevelopmentOnly),
];

/// The kind called `name`, if our workers run it.
pub fn find(name: &JobKind) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name.as_str())
}

/// Checks that `caller` may submit `name`. A kind we do not run (`None`) is legal only where remote workers may lease.
pub fn admit(
    name: &JobKind,
    caller: &Caller,
    profile: Profile,
    queue_is_remote: bool,
    payload: Option<&RawValue>,
) -> Result<Option<&'static Kind>> {
    let Some(kind) = find(name).filter(|kind| exists_in(kind, profile)) else {
        return if queue_is_remote { Ok(None) } else { Err(unknown(name, profile)) };
    };
    if kind.submitters == Submitters::Platform {
        return Err(Error::new(Code::Forbidden, format!("Only the platform itself submits `{name}`.")));
    }
    if kind.is_for_operators(profile) && !caller.sees_all() {
        return Err(Error::new(Code::Forbidden, format!("Only operators may submit `{name}` here.")));
    }
    kind.require_scopes(caller, payload)?;
    Ok(Some(kind))
}

/// Kinds whose payload says what scopes they take.
pub(super) fn scoped_by_payload() -> Vec<String> {
    KINDS.iter().filter(|kind| kind.payload == Payload::File).map(|kind| kind.name.to_owned()).collect()
}

/// Checks that `caller`, who may see a job, may have it run again: what is asked for at the submit is asked for here. Of a kind that we do
/// not run nothing is known, then as now.
pub fn admit_again(name: &str, caller: &Caller, profile: Profile, payload: Option<&RawValue>) -> Result<()> {
    let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else { return Ok(()) };
    if (kind.is_for_operators(profile) || kind.submitters == Submitters::Platform) && !caller.sees_all() {
        return Err(Error::new(Code::Forbidden, format!("Only operators may run `{name}` again here.")));
    }
    kind.require_scopes(caller, payload)
}

fn exists_in(kind: &Kind, profile: Profile) -> bool {
    kind.submitters != Submitters::DevelopmentOnly || profile.is_development()
}

fn unknown(name: &JobKind, profile: Profile) -> Error {
    let known = KINDS.iter().filter(|kind| exists_in(kind, profile)).map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    Error::new(Code::UnknownKind, "No worker of this platform runs that kind, and the queue does not allow remote workers.").with_field(
        "/kind",
        "unknown_kind",
        format!("`{name}` is not one of {known}"),
    )
}
