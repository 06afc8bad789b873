//! What the platform says of itself: logs ([`logs`]) and the one list of metrics ([`metrics`]).

pub mod logs;
pub mod metrics;
