//! Workers as they are run: the real program, started, signalled and killed, on stores of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accounts;
mod ai;
mod blocked;
mod cancel;
mod channel;
mod crash;
mod drain;
mod events;
mod fencing;
mod files;
mod held;
mod http;
mod imports;
mod limits;
mod mail;
mod metrics;
mod outcomes;
mod points;
mod prefetch;
mod publications;
mod recycling;
mod redis_loss;
mod reports;
mod schedules;
mod secrecy;
mod serving;
mod ties;
mod volatile;
mod watchdog;
mod world;
