//! `millrace-jobs`: the processes that run jobs. In reading order:
//!
//! - [`cli`]: the commands.
//! - [`supervisor`]: the parent process; starts children, restarts them, hands signals on, serves health and metrics.
//! - [`child`]: one process that leases and runs, wired around one apalis worker.
//! - `link`: what supervisor and child say to each other.
//! - [`attempt`]: one attempt, from its start to its outcome: limits, cancellation, panics.
//! - [`slots`]: how many attempts may run at once, given and given back.
//! - [`black_box`]: what runs in a child, for its supervisor to find however the child ends.
//! - [`registry`], [`handlers`]: which kind is run by what; to add one, see [`registry`].
//! - [`maintenance`]: what one elected child does for all: sweeping, reconciling, partitions, pruning.
//!
//! The engine itself (leases, settling, the fence) is `shared::jobs::engine`; nothing here touches Redis or SQL on its own.

pub mod attempt;
pub mod black_box;
pub mod child;
pub mod cli;
pub mod handlers;
mod link;
pub mod maintenance;
pub mod registry;
pub mod slots;
pub mod supervisor;
