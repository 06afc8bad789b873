//! Pools that are filled before the process says that it is ready: requests that come first, after a restart, pay for no connection. Where
//! PostgreSQL is away that ends after `DB_ACQUIRE_TIMEOUT_MS`, and readiness is the probes' to tell.

use shared::Context;
use std::sync::Arc;
use tokio::sync::watch;

/// Clones share how many pools there are to fill.
#[derive(Debug, Clone)]
pub struct Filling(Arc<watch::Sender<usize>>);

impl Filling {
    pub fn of(n_pools: usize) -> Self {
        Self(Arc::new(watch::Sender::new(n_pools)))
    }

    /// Fills one of them on the runtime that polls this.
    pub fn fill(&self, ctx: Context) -> impl Future<Output = ()> + use<> {
        let left = Arc::clone(&self.0);
        async move {
            if let Err(error) = ctx.fill_pools().await {
                tracing::warn!(%error, "connections to PostgreSQL are not opened ahead");
            }
            // A thread that is started anew fills its pool again.
            left.send_modify(|n_pools| *n_pools = n_pools.saturating_sub(1));
        }
    }

    /// Returns when it was tried with all.
    pub async fn ended(&self) {
        let mut left = self.0.subscribe();
        // The sender lives as long as this.
        let _ = left.wait_for(|n_pools| *n_pools == 0).await;
    }
}
