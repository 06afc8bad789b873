//! Opens connections until no more are let in, and holds them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::error::Error;
use crate::generator::SourceAddresses;

/// Refusals in a row after which no more are tried.
const REFUSALS_MAX: u32 = 20;
/// Longest that one may take before it counts as not let in: who stands in the backlog is not served.
const LET_IN_WITHIN: Duration = Duration::from_secs(1);

/// Connections that were let in.
#[derive(Debug, Default)]
pub(super) struct Held {
    streams: Vec<Socket>,
    pub(super) refused: u32,
    /// What was answered to the first that was refused.
    pub(super) refusal: Option<String>,
    pub(super) took: Duration,
}

impl Held {
    pub(super) fn n(&self) -> u32 {
        u32::try_from(self.streams.len()).unwrap_or(u32::MAX)
    }
}

/// Opens up to `max` connections, each of which sends `request` and must be answered with a status that begins with `expected`.
pub(super) fn open(
    peer: SocketAddr,
    max: u32,
    request: &[u8],
    expected: &str,
    run_idx: u32,
    mut look: impl FnMut(u32),
) -> Result<Held, Error> {
    let (mut held, begun, mut in_a_row) = (Held::default(), Instant::now(), 0);
    let sources = SourceAddresses::for_run(peer, max, run_idx);
    for idx in 0..max {
        match open_one(peer, sources.of_connection(idx), request, expected) {
            Ok(stream) => {
                held.streams.push(stream);
                in_a_row = 0;
            }
            Err(refusal) => {
                held.refused += 1;
                in_a_row += 1;
                held.refusal.get_or_insert(refusal);
                if in_a_row == REFUSALS_MAX {
                    break;
                }
            }
        }
        look(idx + 1);
    }
    held.took = begun.elapsed();
    match held.streams.is_empty() {
        true => Err(Error::failed(format!("none of the connections was let in: {}", held.refusal.unwrap_or_default()))),
        false => Ok(held),
    }
}

fn open_one(peer: SocketAddr, source: Option<IpAddr>, request: &[u8], expected: &str) -> Result<Socket, String> {
    let connect = || -> std::io::Result<(Socket, String)> {
        let mut socket = Socket::new(Domain::for_address(peer), Type::STREAM, None)?;
        if let Some(source) = source {
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&peer.into(), LET_IN_WITHIN)?;
        socket.set_read_timeout(Some(LET_IN_WITHIN))?;
        socket.write_all(request)?;
        let mut answer = [0; 1_024];
        let n_read = socket.read(&mut answer)?;
        let head = String::from_utf8_lossy(&answer[..n_read]).lines().next().unwrap_or("the connection was closed").to_owned();
        Ok((socket, head))
    };
    let (socket, head) = connect().map_err(|error| error.to_string())?;
    match head.strip_prefix("HTTP/1.1 ").is_some_and(|status| status.starts_with(expected)) {
        true => Ok(socket),
        false => Err(head),
    }
}
