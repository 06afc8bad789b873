//! What the coordinator and its client processes say to each other: one JSON object per line, over standard input and output.
//! Times are nanoseconds of the machine's monotonic clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::client::Totals;
use crate::generator::Counts;

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Dialect {
    /// The platform: JSON commands, heartbeats, offsets.
    Protocol,
    /// The reference: frames are sent back, or to all. It gets the very frames that a subscriber of the platform would.
    Bare,
}

/// One server process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) peer: SocketAddr,
    pub(crate) authority: String,
    pub(crate) path: String,
}

/// What a client process must know before it opens anything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) dialect: Dialect,
    /// Sockets are dealt out over them in turn.
    pub(crate) targets: Vec<Target>,
    /// Each socket subscribes to one, in turn; where there is none it is enough to be connected.
    pub(crate) channels: Vec<String>,
    /// Each socket connects with one, in turn; none is anonymous.
    pub(crate) tokens: Vec<String>,
    /// Number of this process's first socket over all processes.
    pub(crate) first_number: u32,
    /// Sockets of this process at most.
    pub(crate) n_sockets_here: u32,
    /// Sockets of all processes: decides on source addresses.
    pub(crate) n_sockets_in_all: u32,
    /// Which run this is: decides on source addresses.
    pub(crate) run_idx: u32,
    /// Connections being made at once.
    pub(crate) at_once: u32,
    /// Longest wait for a connection to be made and subscribed.
    pub(crate) timeout_ns: u64,
    /// Whether a socket that is closed comes back.
    pub(crate) reconnects: bool,
    /// The method that echoes call.
    pub(crate) rpc_method: String,
    /// What publishers over HTTP show; None publishes without.
    pub(crate) http_token: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    Begin(Box<Plan>),
    /// Opens further sockets; answered by `Opened` once each is subscribed or has failed.
    Open {
        n_sockets: u32,
        /// Of these, the first ones never read once they are subscribed.
        n_stuck: u32,
    },
    Echo(EchoOrder),
    FanOut(FanOutOrder),
    /// Ends the publications before their time.
    EndFanOut,
    /// Answered by `State`.
    Report,
}

/// A request and its reply over and over, on each of the first sockets; answered by `Echoed`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct EchoOrder {
    pub(crate) n_sockets: u32,
    /// From a reply to the next request; 0 is none.
    pub(crate) pause_ns: u64,
    pub(crate) window: Window,
    /// Bytes of padding in the request.
    pub(crate) n_padding: u32,
}

/// Publications to everyone; answered by `FannedOut` when all has arrived or nothing has for a while.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct FanOutOrder {
    pub(crate) window: Window,
    pub(crate) pace: Pace,
    /// Publishers of this process, and the number of the first of them over all processes.
    pub(crate) n_publishers: u32,
    pub(crate) first_publisher: u32,
    pub(crate) by: PublishBy,
    /// Bytes of padding in the data.
    pub(crate) n_padding: u32,
    /// Publications of this process at most; 0 is no limit.
    pub(crate) budget: u64,
    /// Longest wait for what is under way after the end.
    pub(crate) settle_ns: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) launch_ns: u64,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// Publications on the way at once, for each channel.
    Closed { window: u32 },
    /// One publication each so many nanoseconds, for all publishers of this process together.
    Open { interval_ns: f64, offset_ns: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PublishBy {
    Socket,
    Http,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Told {
    Opened(State),
    Echoed(Box<Echoed>),
    FannedOut(Box<FannedOut>),
    State(State),
    Failed(String),
}

/// Where a client process stands; counts are since it began.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Sockets connected and subscribed now.
    pub(crate) ready: u32,
    /// Sockets that could not be opened.
    pub(crate) failed: u32,
    /// Connections lost after they were subscribed, and those made again.
    pub(crate) lost: u64,
    pub(crate) reconnects: u64,
    pub(crate) heartbeats: u64,
    /// Close frames by code.
    pub(crate) closes: BTreeMap<u16, u64>,
    /// Why sockets failed or were lost.
    pub(crate) causes: BTreeMap<String, u64>,
    /// When the last `Open` began and ended.
    pub(crate) opened_from_ns: u64,
    pub(crate) opened_to_ns: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Echoed {
    pub(crate) replies: u64,
    pub(crate) errors: u64,
    pub(crate) latency: Counts,
    pub(crate) state: State,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FannedOut {
    /// Publications sent, those of the warm-up too.
    pub(crate) published: u64,
    pub(crate) published_in_window: u64,
    /// Publications that the server took.
    pub(crate) acknowledged: u64,
    pub(crate) refused: BTreeMap<String, u64>,
    /// Publications that got no answer.
    pub(crate) in_doubt: u64,
    /// Open loop: due and never sent.
    pub(crate) unsent: u64,
    /// Closed loop: times that a window stayed full for a second and was given up.
    pub(crate) stalls: u64,
    pub(crate) deliveries_in_window: u64,
    /// When the last delivery came.
    pub(crate) last_delivery_ns: u64,
    /// From publishing (open loop: from when it was due) to receiving.
    pub(crate) latency: Counts,
    pub(crate) ledger: Totals,
    pub(crate) channels: Vec<ChannelEnd>,
    pub(crate) stuck: Vec<StuckEnd>,
    pub(crate) state: State,
}

/// How one channel stands at the end, for one epoch of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChannelEnd {
    pub(crate) channel: String,
    pub(crate) epoch: String,
    /// Offset before the first publication of the run.
    pub(crate) base: u64,
    /// How many subscribers have got how far.
    pub(crate) last_offsets: BTreeMap<u64, u32>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct StuckEnd {
    /// When the server let go of it, from the launch; None when it has not.
    pub(crate) closed_after_ns: Option<u64>,
    /// The close code that stood in what was left to read.
    pub(crate) code: Option<u16>,
}
