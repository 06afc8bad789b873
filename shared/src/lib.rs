//! The nouns of Millrace and what they stand on. In reading order:
//!
//! - [`error`]: the closed list of codes that anything may fail with; knows no HTTP.
//! - [`ids`], [`clock`], [`page`], [`text`], `json_fields`, [`json_words`]: the small types every noun is made of.
//! - [`caller`]: who asks, and what they may do.
//! - [`accounts`]: users, sessions, API keys; from a credential to a caller.
//! - [`config`]: every setting, its layers and its checks; the only reader of the environment.
//! - [`context`]: what an operation is given: settings, PostgreSQL, Redis, time.
//! - [`pg`], [`redis`], [`keys`]: the two servers, and the names of everything kept in Redis.
//! - [`jobs`]: what is done later, at least once; [`schedules`]: what is submitted again and again. [`channels`]: what is told to whoever listens now.
//! - [`endpoints`]: receivers that jobs are delivered to. [`mail`], [`ai`]: what jobs ask of a mail server, and of a language model.
//! - [`tracks`]: what is followed, and [`points`]: where it was. [`files`]: what is uploaded, and what jobs make.
//! - [`telemetry`]: logs and the one list of metrics.
//! - [`limits`]: rate limits. [`shares`], [`turns`]: what a process has of places, bytes and work at once, and what of it one user may have.
//!   [`idempotency`]: replay of answers to repeated creations.
//!
//! - [`vital`]: tasks whose panic ends the process.
//! - [`breaker`]: when PostgreSQL or Redis is away, what needs it fails at once.
//! - [`outbound`]: HTTP to addresses that callers chose.
//! - [`nodes`]: which processes of the platform are alive. [`overview`]: how queues and servers stand, for metrics. [`capacity`]: how
//!   large all of it should be, and why.
//!
//! `testing` gives tests a database and a key prefix of their own. Edges (HTTP, command line, apalis workers) live in the binaries and only call downwards into here.

pub mod accounts;
pub mod ai;
pub mod breaker;
pub mod caller;
pub mod capacity;
pub mod channels;
pub mod clock;
pub mod config;
pub mod context;
pub mod endpoints;
pub mod error;
pub mod files;
pub mod idempotency;
pub mod ids;
pub mod instant;
pub mod jobs;
mod json_fields;
pub mod json_words;
pub mod keys;
pub mod limits;
pub mod mail;
pub mod nodes;
pub mod outbound;
pub mod overview;
pub mod page;
pub mod pg;
pub mod points;
pub mod redis;
pub mod schedules;
pub mod shares;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;
pub mod tracks;
pub mod turns;
mod validation;
pub mod vital;

pub use caller::{Caller, Role, Scope};
pub use context::Context;
pub use error::{Code, Error, FieldError, Result};
