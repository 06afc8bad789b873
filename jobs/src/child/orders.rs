//! What a child is told to do, by signals and by its supervisor, whose end is an order as well.

use crate::link::Wish;
use shared::{Error, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Lease again, after [`Order::Quiet`].
    Resume,
    /// Lease nothing more.
    Quiet,
    /// TERM: finish what runs, then end; a second one is [`Order::Cold`].
    Warm,
    /// QUIT, or the supervisor is gone: end now.
    Cold,
}

/// Signals and the supervisor's end as one stream.
#[derive(Debug)]
pub(super) struct Orders {
    wish: watch::Receiver<Wish>,
    is_quiet: bool,
    warm: Signal,
    cold: Signal,
    supervisor_gone: mpsc::Receiver<()>,
}

impl Orders {
    pub(super) fn listen(wish: watch::Receiver<Wish>, supervisor_gone: mpsc::Receiver<()>) -> Result<Self> {
        let on = |kind: SignalKind| signal(kind).map_err(Error::internal);
        Ok(Self { wish, is_quiet: false, warm: on(SignalKind::terminate())?, cold: on(SignalKind::quit())?, supervisor_gone })
    }

    pub(super) async fn next(&mut self) -> Order {
        let was_quiet = self.is_quiet;
        tokio::select! {
            Ok(wish) = self.wish.wait_for(|wish| wish.is_quiet != was_quiet) => {
                self.is_quiet = wish.is_quiet;
                if self.is_quiet { Order::Quiet } else { Order::Resume }
            }
            Some(()) = self.warm.recv() => Order::Warm,
            Some(()) = self.cold.recv() => Order::Cold,
            Some(()) = self.supervisor_gone.recv() => Order::Cold,
            else => std::future::pending().await,
        }
    }
}
