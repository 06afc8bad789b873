//! Redis on several servers: what commands and listeners do when masters are killed, demoted, hang, or give slots away.
//!
//! Run by `infra/local/failover` alone: each test starts servers of its own, and a failover takes seconds. Jobs across
//! failovers are in `api/tests/chaos`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod channels;
mod cluster;
mod sentinel;
mod world;
