//! What every handler is given: one value per process, shared by its threads.

use crate::{drain::Drain, extract::BodyBudget, filling::Filling, health::Health, server::Grown, socket::Sockets};
use shared::{Context, Result, accounts::Accounts, ids::NodeId, limits::Limiter, overview::Overview, telemetry::metrics::MetricsHandle};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

#[derive(Debug, Clone)]
pub struct AppState {
    pub ctx: Context,
    pub limiter: Limiter,
    pub accounts: Accounts,
    pub drain: Drain,
    pub health: Health,
    pub filling: Filling,
    pub bodies: BodyBudget,
    pub grown: Arc<Grown>,
    pub sockets: Sockets,
    pub metrics: MetricsHandle,
    pub overview: Arc<Overview>,
    /// Of those who read `/metrics` at once.
    pub scrapes: Arc<Semaphore>,
    pub node_id: NodeId,
    pub started_at: OffsetDateTime,
}

impl AppState {
    /// The same with connections of its own; called on the worker's thread.
    pub fn for_worker(&self, n_workers: usize) -> Result<Self> {
        let ctx = self.ctx.for_worker(n_workers)?;
        Ok(Self { accounts: self.accounts.on(ctx.clone()), ctx, ..self.clone() })
    }
}
