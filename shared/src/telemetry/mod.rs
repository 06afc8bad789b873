//! What the platform says of itself: logs ([`logs`]), the one list of metrics ([`metrics`]), this process's own ([`process`]), and what
//! the service manager is told ([`service`]).

pub mod logs;
pub mod metrics;
pub mod process;
pub mod service;
pub mod tally;
