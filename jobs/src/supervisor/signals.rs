//! The signals that a supervisor acts on: TERM and INT, QUIT, TSTP and CONT, and HUP.

use super::Order;
use shared::{Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug)]
pub(super) enum Heard {
    Order(Order),
    /// Read the settings again.
    Reload,
}

#[derive(Debug)]
pub(super) struct Signals {
    reload: Signal,
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
            reload: on(SignalKind::hangup())?,
            resume: on(SignalKind::from_raw(nix::libc::SIGCONT))?,
            quiet: on(SignalKind::from_raw(nix::libc::SIGTSTP))?,
            warm: on(SignalKind::terminate())?,
            // Ctrl-C means the same: the children are in groups of their own and do not get it.
            interrupt: on(SignalKind::interrupt())?,
            cold: on(SignalKind::quit())?,
        })
    }

    pub(super) async fn next(&mut self) -> Heard {
        tokio::select! {
            Some(()) = self.reload.recv() => Heard::Reload,
            Some(()) = self.resume.recv() => Heard::Order(Order::Run),
            Some(()) = self.quiet.recv() => Heard::Order(Order::Quiet),
            Some(()) = self.warm.recv() => Heard::Order(Order::Warm),
            Some(()) = self.interrupt.recv() => Heard::Order(Order::Warm),
            Some(()) = self.cold.recv() => Heard::Order(Order::Cold),
            else => std::future::pending().await,
        }
    }
}
