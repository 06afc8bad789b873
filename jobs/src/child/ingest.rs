//! The storing of points, which the child of each worker does that runs no jobs.

use super::Assignment;
use shared::{Context, points::process, vital::steadily};
use std::time::Duration;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// A batch under way is stored within this when the child stops; what is not, another process takes over.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Goes on until it is stopped.
pub(super) struct Ingest {
    task: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

pub(super) fn spawn(ctx: &Context, assignment: &Assignment) -> Ingest {
    let stop = CancellationToken::new();
    if !ctx.settings().worker_ingest {
        return Ingest { task: None, stop };
    }
    // One that takes the place of another may begin while what that one had begun is not given up yet.
    let name = format!("{}-{}", assignment.worker_id, std::process::id());
    let (ctx, told) = (ctx.clone(), stop.clone());
    Ingest { task: Some(tokio::spawn(async move { steadily("ingest", || process::run(&ctx, &name, &told)).await })), stop }
}

impl Ingest {
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Some(mut task) = self.task
            && timeout(PATIENCE, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}
