//! What every handler is given: one value per process, shared by its threads.

use crate::drain::Drain;
use shared::{Caller, Code, Context, Error, Result, ids::NodeId, limits::Limiter, telemetry::metrics::MetricsHandle};
use time::OffsetDateTime;

#[derive(Debug, Clone)]
pub struct AppState {
    pub ctx: Context,
    pub limiter: Limiter,
    pub drain: Drain,
    pub metrics: MetricsHandle,
    pub node_id: NodeId,
    pub started_at: OffsetDateTime,
}

impl AppState {
    /// The same with connections of its own; called on the worker's thread.
    pub fn for_worker(&self, n_workers: usize) -> Result<Self> {
        Ok(Self { ctx: self.ctx.for_worker(n_workers)?, ..self.clone() })
    }

    /// Who holds this access token or API key.
    pub async fn authenticate(&self, _credentials: &str) -> Result<Caller> {
        Err(Error::new(Code::InvalidToken, "The token is not valid."))
    }
}
