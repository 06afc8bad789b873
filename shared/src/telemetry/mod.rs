//! What the platform says of itself: logs ([`logs`]), traces ([`traces`]), the one list of metrics ([`metrics`]) with what renders them
//! ([`recorder`], [`tally`], [`page`]), this process's own ([`process`], [`pulse`]), and what the service manager is told ([`service`]).

pub mod logs;
pub mod metric;
pub mod metrics;
pub mod page;
pub mod process;
pub mod pulse;
pub mod recorder;
pub mod service;
pub mod tally;
pub mod traces;
