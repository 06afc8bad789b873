//! What the platform says of itself: logs ([`logs`]) the one list of metrics ([`metrics`]), and this process's own ([`process`]).

pub mod logs;
pub mod metrics;
pub mod process;
