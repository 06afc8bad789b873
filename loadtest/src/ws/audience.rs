//! Sockets that follow channels through whatever happens to the servers, with publications meanwhile and an account for each: for a run that
//! breaks something, and wants to know what it did to them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::crew::{Crew, Share, unexpected};
use super::fan_out::draw_up;
use super::orders::{Dialect, FanOutOrder, Order, Pace, Plan, PublishBy, Target, Told};
use super::report::Ledger;
use super::site::{SOCKET_PATH, window};
use crate::error::Error;
use crate::machine;

/// Connections being made at once.
const AT_ONCE: u32 = 64;
/// Beyond the time for publications to settle.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Who listens, and where.
pub(crate) struct Seats {
    pub(crate) peer: SocketAddr,
    pub(crate) authority: String,
    pub(crate) token: String,
    pub(crate) channels: Vec<String>,
    pub(crate) n_sockets: u32,
    pub(crate) timeout: Duration,
}

pub(crate) struct Audience {
    crew: Crew,
    n_sockets: u32,
    settle: Duration,
}

/// What the sockets went through.
#[derive(Debug, Clone, Serialize)]
pub struct Heard {
    pub sockets: u32,
    /// Connected and subscribed at the end.
    pub ready: u32,
    pub published: u64,
    pub acknowledged: u64,
    /// Publications without an answer: their socket was closed meanwhile.
    pub in_doubt: u64,
    pub refused: BTreeMap<String, u64>,
    pub lost_connections: u64,
    pub reconnects: u64,
    pub closes: BTreeMap<u16, u64>,
    /// Why connections were lost or could not be made.
    pub causes: BTreeMap<String, u64>,
    pub ledger: Ledger,
}

impl Audience {
    /// Returns when all are subscribed; one that cannot be is an error.
    pub(crate) fn open(seats: Seats) -> Result<Self, Error> {
        let n_sockets = seats.n_sockets;
        machine::allow_connections(n_sockets)?;
        let plan = Plan {
            dialect: Dialect::Protocol,
            targets: vec![Target { peer: seats.peer, authority: seats.authority, path: SOCKET_PATH.to_owned() }],
            channels: seats.channels,
            tokens: vec![seats.token],
            first_number: 0,
            n_sockets_here: n_sockets,
            n_sockets_in_all: n_sockets,
            run_idx: 0,
            at_once: AT_ONCE,
            timeout_ns: u64::try_from(seats.timeout.as_nanos()).unwrap_or(u64::MAX),
            reconnects: true,
            rpc_method: "time".to_owned(),
            http_token: None,
        };
        let mut crew = Crew::start(vec![plan])?;
        let opened = crew.open(&[Share { n_sockets, n_stuck: 0 }], &mut || ())?;
        match opened.first() {
            Some(state) if state.ready == n_sockets => Ok(Self { crew, n_sockets, settle: Duration::ZERO }),
            state => Err(Error::failed(format!("not every socket could be opened: {:?}", state.map(|state| &state.causes)))),
        }
    }

    /// Begins to publish `rate_per_s`, by as many of the sockets as there are `publishers`, until told to end or for `longest`.
    pub(crate) fn begin(&mut self, rate_per_s: f64, n_publishers: u32, longest: Duration, settle: Duration) -> Result<(), Error> {
        self.settle = settle;
        let order = FanOutOrder {
            window: window(Duration::ZERO, longest),
            pace: Pace::Open { interval_ns: 1e9 / rate_per_s, offset_ns: 0.0 },
            n_publishers,
            first_publisher: 0,
            by: PublishBy::Socket,
            n_padding: 0,
            budget: 0,
            settle_ns: u64::try_from(settle.as_nanos()).unwrap_or(u64::MAX),
        };
        self.crew.order(0, &Order::FanOut(order))
    }

    /// Ends the publications, and tells what everybody heard once all have heard the same, or `settle` is over.
    pub(crate) fn end(mut self) -> Result<Heard, Error> {
        self.crew.order(0, &Order::EndFanOut)?;
        let told = self.crew.told(0, self.settle + END_WITHIN, &mut || ())?;
        let Told::FannedOut(end) = told else { return Err(unexpected(&told)) };
        let ends = [*end];
        let ledger = draw_up(&ends, Dialect::Protocol, self.n_sockets);
        let [end] = ends;
        Ok(Heard {
            sockets: self.n_sockets,
            ready: end.state.ready,
            published: end.published,
            acknowledged: end.acknowledged,
            in_doubt: end.in_doubt,
            refused: end.refused,
            lost_connections: end.state.lost,
            reconnects: end.state.reconnects,
            closes: end.state.closes,
            causes: end.state.causes,
            ledger,
        })
    }
}

impl Heard {
    /// Whether everybody is there and heard everything once and in order, with nothing that could not be recovered.
    pub fn is_whole(&self) -> bool {
        self.ready == self.sockets && self.ledger.is_whole && self.ledger.totals.announced_gaps == 0
    }
}
