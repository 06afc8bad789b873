//! `worker`: tells a running worker to go quiet, to go on, or to stop, as `POST /workers/{id}/…` does.

use super::{operator, print};
use clap::Subcommand;
use shared::{
    Context, Result,
    accounts::Origin,
    ids::WorkerId,
    jobs::worker_orders::{self, WorkerOrder},
};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Tell {
    /// Lease nothing more; what is leased runs.
    Quiet { id: WorkerId },
    /// Lease again.
    Resume { id: WorkerId },
    /// Finish what runs, then end.
    Stop { id: WorkerId },
}

pub(super) async fn run(ctx: &Context, tell: &Tell) -> Result<ExitCode> {
    let (id, order) = match *tell {
        Tell::Quiet { id } => (id, WorkerOrder::Quiet),
        Tell::Resume { id } => (id, WorkerOrder::Resume),
        Tell::Stop { id } => (id, WorkerOrder::Stop),
    };
    let worker = worker_orders::tell(ctx, &operator(), id, order, &Origin::default()).await?;
    Ok(print(&format!("{} is told", worker.name)))
}
