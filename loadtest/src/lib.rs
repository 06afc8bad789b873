//! Load on a running Millrace, measured without coordinated omission. It speaks to the platform
//! only over the network and shares no code with it.
//!
//! In reading order: `cli` is the command line · `http` measures requests, `jobs` the queue, `ingest` points, `files` uploads, `ws` sockets, `rolling` what a
//! restart does to all of them, `overload` what more than the platform can do makes of it, `saturation` how it comes back, `all` everything, for which
//! `page` makes a page to read · `generator` makes the load · `client` speaks HTTP/1.1 · `control` and `session` set up over the API · `address` says
//! where load may go · `process`, `process_tree`, `machine` and `progress` tell of server,
//! machine and run, `provenance` heads every report · `columns` lays tables out · `output` and `error` are how a command speaks and fails.
//!
//! A further kind of load is a folder beside `http` and a subcommand in `cli`; it brings its own
//! `run`, and uses `generator` where it sends HTTP.

mod address;
pub mod all;
pub mod cli;
mod client;
mod columns;
mod control;
mod error;
pub mod files;
mod generator;
pub mod http;
pub mod ingest;
pub mod jobs;
mod machine;
mod output;
pub mod overload;
mod page;
mod process;
mod process_tree;
mod progress;
mod provenance;
pub mod rolling;
pub mod saturation;
mod session;
pub mod ws;

pub use address::HttpUrl;
pub use client::Method;
pub use error::Error;
pub use machine::Machine;
pub use output::Output;
pub use process::Usage;
pub use process_tree::TreeUsage;
pub use provenance::Provenance;
pub use session::Account;
