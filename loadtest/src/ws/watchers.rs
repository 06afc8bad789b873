//! Sockets that hear what is told of queues and jobs while something else is measured.

use std::net::SocketAddr;
use std::time::Duration;

use super::crew::{Crew, Share};
use super::orders::{Dialect, Plan, Target};
use super::site::SOCKET_PATH;
use crate::error::Error;
use crate::machine;

/// Connections being made at once.
const AT_ONCE: u32 = 64;

/// Where the platform is, and who watches.
pub(crate) struct Watched<'a> {
    pub(crate) peer: SocketAddr,
    pub(crate) authority: String,
    pub(crate) token: String,
    /// The queue, which every second socket watches.
    pub(crate) queue: &'a str,
    /// Jobs that the others watch, one each in turn.
    pub(crate) jobs: Vec<String>,
    pub(crate) timeout: Duration,
}

/// They watch until this is dropped.
pub(crate) struct Watchers(Crew);

impl Watchers {
    /// Returns when all are subscribed; one that cannot be is an error.
    pub(crate) fn open(n_sockets: u32, watched: Watched<'_>) -> Result<Self, Error> {
        let queue = format!("queue:{}", watched.queue);
        let channels = match &*watched.jobs {
            [] => vec![queue],
            jobs => jobs.iter().take(n_sockets as usize).flat_map(|job| [queue.clone(), format!("job:{job}")]).collect(),
        };
        machine::allow_connections(n_sockets)?;
        let plan = Plan {
            dialect: Dialect::Protocol,
            targets: vec![Target { peer: watched.peer, authority: watched.authority, path: SOCKET_PATH.to_owned() }],
            channels,
            tokens: vec![watched.token],
            first_number: 0,
            n_sockets_here: n_sockets,
            n_sockets_in_all: n_sockets,
            run_idx: 0,
            at_once: AT_ONCE,
            timeout_ns: u64::try_from(watched.timeout.as_nanos()).unwrap_or(u64::MAX),
            reconnects: false,
            rpc_method: "time".to_owned(),
            http_token: None,
        };
        let mut crew = Crew::start(vec![plan])?;
        let opened = crew.open(&[Share { n_sockets, n_stuck: 0 }], &mut || ())?;
        match opened.first() {
            Some(state) if state.ready == n_sockets => Ok(Self(crew)),
            state => Err(Error::failed(format!("not every socket could watch: {:?}", state.map(|state| &state.causes)))),
        }
    }

    /// How many still do.
    pub(crate) fn watching(&mut self) -> Result<u32, Error> {
        Ok(self.0.state()?.ready)
    }
}
