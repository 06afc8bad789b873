//! What one run sends, to whom, how fast and for how long.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::numbering::Numbering;
use crate::client::BodyRule;

/// Connections made from one source address before the next is used. One address has 28,000
/// ephemeral ports, and the kernel's search for a free one slows long before they run out.
const CONNECTIONS_PER_SOURCE: u32 = 5_000;
/// Usable last octets of 127.0.0.x, beginning at 2.
const N_SOURCES: u32 = 253;

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Each connection sends its next request when the last is answered.
    Closed,
    /// Requests are due on a fixed schedule, whether or not the server keeps up.
    Open {
        rate_per_s: f64,
        /// Requests due but not yet sent; past it the oldest is given up as unsent.
        max_waiting: u64,
    },
}

/// One run of load.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) peer: SocketAddr,
    /// Ready-made request bytes, at least one: sent in rotation, and with a budget of as many each once, in their order.
    pub(crate) requests: Vec<Box<[u8]>>,
    pub(crate) body_rule: BodyRule,
    pub(crate) connections: u32,
    pub(crate) threads: u32,
    pub(crate) pace: Pace,
    /// Sent but not measured, before the duration begins.
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// Longest wait for a connection or a response.
    pub(crate) timeout: Duration,
    pub(crate) sources: SourceAddresses,
    /// Ends the run before its time once so many requests are sent.
    pub(crate) budget: Option<Budget>,
    pub(crate) harvest: Harvest,
}

/// Requests that all connections of a run may still send together.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<AtomicU64>);

impl Budget {
    pub(crate) fn new(n_requests: u64) -> Self {
        Self(Arc::new(AtomicU64::new(n_requests)))
    }

    /// How many are left.
    pub(crate) fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes one of them, and says how many are left behind it; `None` when none is left.
    pub(super) fn take(&self) -> Option<u64> {
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()?;
        Some(before - 1)
    }
}

/// What is kept of the answers' bodies.
#[derive(Debug, Clone)]
pub(crate) enum Harvest {
    Nothing,
    /// The ids of the jobs that 2xx answers name, for a ledger.
    JobIds,
    /// The same of 202 answers alone, and how many points 207 answers accept; each request is numbered before it is sent.
    Accepted(Arc<Numbering>),
}

/// The measured time of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// First request, warm-up included.
    pub(crate) launch: Instant,
    pub(crate) start: Instant,
    pub(crate) end: Instant,
}

/// Deals out loopback source addresses, so that many connections pass the limit of ephemeral
/// ports, and a run does not meet the ports that the one before left in TIME_WAIT.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceAddresses {
    /// First of the 127.0.0.x addresses of this run; None leaves the choice to the kernel.
    first: Option<u32>,
}

impl SourceAddresses {
    /// Addresses for the `run_idx`-th run of `connections` connections to `peer`.
    pub(crate) fn for_run(peer: SocketAddr, connections: u32, run_idx: u32) -> Self {
        let is_loopback_v4 = matches!(peer.ip(), IpAddr::V4(address) if address.is_loopback());
        let needed = connections.div_ceil(CONNECTIONS_PER_SOURCE);
        let first = (is_loopback_v4 && needed > 1).then(|| run_idx.wrapping_mul(needed));
        Self { first }
    }

    pub(crate) fn of_connection(self, connection_idx: u32) -> Option<IpAddr> {
        let first = self.first?;
        let source_idx = first.wrapping_add(connection_idx / CONNECTIONS_PER_SOURCE) % N_SOURCES;
        let last_octet = u8::try_from(source_idx + 2).expect("253 addresses end at 254");
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last_octet)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_octets(connections: u32, run_idx: u32) -> Vec<u8> {
        let peer = SocketAddr::from(([127, 0, 0, 1], 80));
        let sources = SourceAddresses::for_run(peer, connections, run_idx);
        let mut octets: Vec<u8> = (0..connections)
            .filter_map(|idx| sources.of_connection(idx))
            .map(|address| match address {
                IpAddr::V4(address) => address.octets()[3],
                IpAddr::V6(_) => 0,
            })
            .collect();
        octets.dedup();
        octets
    }

    #[test]
    fn few_connections_leave_the_source_to_the_kernel() {
        assert!(last_octets(5_000, 0).is_empty());
    }

    #[test]
    fn many_connections_use_an_address_per_five_thousand_and_others_in_the_next_run() {
        assert_eq!(last_octets(20_000, 0), [2, 3, 4, 5]);
        assert_eq!(last_octets(20_000, 1), [6, 7, 8, 9]);
        assert_eq!(last_octets(20_000, 63), [254, 2, 3, 4]);
    }

    #[test]
    fn another_host_is_reached_from_the_kernels_own_address() {
        let peer = SocketAddr::from(([192, 0, 2, 1], 80));
        let sources = SourceAddresses::for_run(peer, 20_000, 0);
        assert_eq!(sources.of_connection(0), None);
    }
}
