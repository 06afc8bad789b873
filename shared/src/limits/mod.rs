//! Rate limits: one token bucket per class and caller, kept in Redis so that all processes share it.
//!
//! A process takes tokens from Redis in small slices and spends them without I/O, so a caller with a large quota costs
//! one round trip in many requests. A slice is at most 1/128 of the limit and lasts at most a second, so the total over
//! all processes is never exceeded; what a process took and did not spend is lost to the caller. With Redis away each
//! process counts alone, with buckets of the same size, and says so in the metric `rate_limit_local`.

mod bucket;
mod slices;

pub use bucket::Bucket;

use crate::{
    Code, Context, Error,
    config::{Rate, Settings},
    ids::UserId,
    telemetry::metrics::RATE_LIMITED,
};
use slices::Slices;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

/// Groups of routes that share a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Sign-ins of one account.
    Login,
    /// Sign-ins and registrations from one address.
    LoginAddress,
    Write,
    Read,
    Bulk,
    /// What remote workers ask.
    Work,
    /// Points on their way in.
    Ingest,
    /// Files on their way in.
    Upload,
}

impl Class {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::LoginAddress => "login-address",
            Self::Write => "write",
            Self::Read => "read",
            Self::Bulk => "bulk",
            Self::Work => "work",
            Self::Ingest => "ingest",
            Self::Upload => "upload",
        }
    }

    const fn rate(self, settings: &Settings) -> Rate {
        match self {
            Self::Login => settings.rate_limit_login,
            Self::LoginAddress => settings.rate_limit_login_address,
            Self::Write => settings.rate_limit_write,
            Self::Read => settings.rate_limit_read,
            Self::Bulk => settings.rate_limit_bulk,
            Self::Work => settings.rate_limit_work,
            Self::Ingest => settings.rate_limit_ingest,
            Self::Upload => settings.rate_limit_upload,
        }
    }
}

/// Whose tokens are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Principal {
    User(UserId),
    Address(IpAddr),
    /// An account that may not exist: the first 128 bits of the hash of its address.
    Account(u128),
}

impl Principal {
    /// Of IPv6 the network of 64 bits: whoever has one address has all of those, and would have as many quotas.
    #[must_use]
    pub fn counted(self) -> Self {
        match self {
            Self::Address(IpAddr::V6(address)) => Self::Address(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
            Self::Address(IpAddr::V4(_)) | Self::User(_) | Self::Account(_) => self,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "u:{id}"),
            Self::Address(address) => write!(f, "a:{address}"),
            Self::Account(hash) => write!(f, "e:{hash:032x}"),
        }
    }
}

/// What a bucket said to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub class: Class,
    pub rate: Rate,
    pub remaining: u32,
    /// Until the bucket is full again.
    pub reset_after: Duration,
    /// `Some` when refused: until one token is there.
    pub retry_after: Option<Duration>,
}

impl Verdict {
    /// The 429 to answer with, if this is a refusal.
    pub fn refusal(&self) -> Option<Error> {
        let retry_after = self.retry_after?;
        let detail = format!("More than {} requests of class `{}` in {} s.", self.rate.limit, self.class.as_str(), self.rate.per.as_secs());
        Some(Error::new(Code::RateLimited, detail).retry_after(Duration::from_secs(retry_after.as_secs_f64().ceil() as u64)))
    }

    /// Names and values of the headers that tell a client where it stands.
    pub fn headers(&self) -> [(&'static str, String); 5] {
        let Self { class, rate, remaining, .. } = self;
        let (class, reset_s) = (class.as_str(), self.reset_after.as_secs_f64().ceil() as u64);
        [
            ("ratelimit-policy", format!("\"{class}\";q={};w={}", rate.limit, rate.per.as_secs())),
            ("ratelimit", format!("\"{class}\";r={remaining};t={reset_s}")),
            ("x-ratelimit-limit", rate.limit.to_string()),
            ("x-ratelimit-remaining", remaining.to_string()),
            ("x-ratelimit-reset", reset_s.to_string()),
        ]
    }
}

/// The limiter of one process; clones share it.
#[derive(Debug, Clone)]
pub struct Limiter {
    slices: Arc<Slices>,
}

impl Limiter {
    /// Remembers at most `callers_max` callers; of more, the least recent start with a fresh slice.
    pub fn new(callers_max: usize) -> Self {
        Self { slices: Arc::new(Slices::new(callers_max)) }
    }

    /// How long `principal` was refused for, if it was lately; takes nothing, and asks nobody.
    pub fn refuses(&self, ctx: &Context, class: Class, principal: Principal) -> Option<Duration> {
        if ctx.settings().rate_limits { self.slices.refuses(class, principal.counted()) } else { None }
    }

    /// Takes one token for `principal`; `None` when rate limits are off.
    pub async fn check(&self, ctx: &Context, class: Class, principal: Principal) -> Option<Verdict> {
        let rate = {
            let settings = ctx.settings();
            if !settings.rate_limits {
                return None;
            }
            class.rate(&settings)
        };
        let verdict = self.slices.take(ctx, class, principal.counted(), rate).await;
        if verdict.retry_after.is_some() {
            metrics::counter!(RATE_LIMITED, "class" => class.as_str()).increment(1);
        }
        Some(verdict)
    }
}

#[cfg(test)]
mod tests;
