//! The signals that a supervisor acts on: TERM and INT, QUIT, TSTP and CONT.

use super::Order;
use shared::{Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug)]
pub(super) struct Signals {
    resume: Signal,
    quiet: Signal,
    warm: Signal,
    interrupt: Signal,
    cold: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self> {
        let on = |kind: SignalKind| signal(kind).map_err(Error::internal);
        Ok(Self {
            resume: on(SignalKind::from_raw(nix::libc::SIGCONT))?,
            quiet: on(SignalKind::from_raw(nix::libc::SIGTSTP))?,
            warm: on(SignalKind::terminate())?,
            // Ctrl-C means the same: the children are in groups of their own and do not get it.
            interrupt: on(SignalKind::interrupt())?,
            cold: on(SignalKind::quit())?,
        })
    }

    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            Some(()) = self.resume.recv() => Order::Run,
            Some(()) = self.quiet.recv() => Order::Quiet,
            Some(()) = self.warm.recv() => Order::Warm,
            Some(()) = self.interrupt.recv() => Order::Warm,
            Some(()) = self.cold.recv() => Order::Cold,
            else => std::future::pending().await,
        }
    }
}
