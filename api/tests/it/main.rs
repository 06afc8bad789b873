//! The API in process on a port of its own, with its own database and its own keys; the tree mirrors the URLs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod api_keys;
mod auth;
mod batches;
mod capacity;
mod channels;
mod command_line;
mod edge;
mod endpoints;
mod examples;
mod faults;
mod files;
mod jobs;
mod logs;
mod metrics;
mod openapi;
mod points;
mod pools;
mod process;
mod programs;
mod queues;
mod redis_away;
mod remote;
mod replica;
mod schedules;
mod secrecy;
mod socket;
#[path = "../sockets/mod.rs"]
mod sockets;
mod support;
mod system;
mod tls;
mod traces;
mod users;
mod volatile;
