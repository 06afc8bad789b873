//! The process that holds the sockets. It shares the machine's cores with the server, so it must cost little: one thread, one
//! poll for all sockets, no allocation per delivery, no JSON parsed of one.
//!
//! `reactor` is the loop · `slot` is one socket, with `connect`, `wire` (frames), `scanner` (lines) and `script` (what it says)
//! · `ledger` accounts for its offsets · `shared` is what all sockets see · `echo` and `fan_out` are the tasks, `publishers` and
//! `http` send publications · `clock` is time.

mod clock;
mod connect;
mod echo;
mod fan_out;
mod http;
mod ledger;
mod publishers;
mod reactor;
mod scanner;
mod script;
mod shared;
mod slot;
pub(super) mod wire;

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use mio::{Poll, Waker};

use self::reactor::{Reactor, WAKER, tell};
use super::orders::{Order, Plan, Told};
use super::site::SOCKET_PATH;
use crate::error::Error;
use crate::machine;

pub(crate) use self::clock::now_ns;
pub use self::ledger::Totals;

/// Orders that may wait; the coordinator gives one at a time.
const MAX_ORDERS: usize = 16;

/// A request for a socket, and what it says first: for loads that hold sockets and no more.
pub(crate) fn opening(authority: &str, token: &str) -> (Vec<u8>, Vec<u8>) {
    (wire::upgrade_request(authority, SOCKET_PATH), script::text_frame(&script::greeting(Some(token), None, None)))
}

/// Obeys the coordinator's orders on standard input until it closes.
pub(crate) fn run() -> Result<(), Error> {
    let mut lines = io::stdin().lock().lines();
    let first = lines.next().transpose()?.map(|line| serde_json::from_str(&line));
    let Some(Ok(Order::Begin(plan))) = first else {
        return Err(Error::usage("this command is for the load tester itself: it takes orders on standard input"));
    };
    drop(lines);
    let outcome = obey(*plan);
    if let Err(error) = &outcome {
        tell(&Told::Failed(error.to_string()))?;
    }
    outcome
}

fn obey(plan: Plan) -> Result<(), Error> {
    machine::allow_connections(plan.n_sockets_here)?;
    let poll = Poll::new().map_err(Error::failed)?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(Error::failed)?);
    let (given, orders) = sync_channel(MAX_ORDERS);
    std::thread::Builder::new().name("orders".to_owned()).spawn(move || read_orders(&given, &waker)).map_err(Error::failed)?;
    Reactor::new(poll, plan, orders).map_err(Error::failed)?.run()
}

/// Ends with standard input, and with it the channel and the process: a coordinator that is gone leaves nothing behind.
fn read_orders(given: &SyncSender<Order>, waker: &Waker) {
    for line in io::stdin().lock().lines() {
        let Ok(Ok(order)) = line.map(|line| serde_json::from_str(&line)) else { break };
        if given.send(order).is_err() || waker.wake().is_err() {
            break;
        }
    }
}
