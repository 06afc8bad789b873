//! `queues`: every queue and how deep it is; and to pause or resume one.

use super::{operator, print, print_json, print_table};
use clap::Subcommand;
use serde::Serialize;
use shared::{
    Context, Result,
    accounts::Origin,
    jobs::{
        QueueName,
        engine::{depths, upkeep},
        queues,
    },
};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Change {
    /// Lease nothing more from a queue; what runs goes on.
    Pause { queue: String },
    /// Lease from it again.
    Resume { queue: String },
}

pub(super) async fn change(ctx: &Context, change: &Change, json: bool) -> Result<ExitCode> {
    let queue = match change {
        Change::Pause { queue } => queues::pause(ctx, &operator(), &QueueName::new(queue)?, &Origin::default()).await?,
        Change::Resume { queue } => queues::resume(ctx, &operator(), &QueueName::new(queue)?, &Origin::default()).await?,
    };
    if json {
        return Ok(print_json(&queue));
    }
    Ok(print(&format!("{} is {}", queue.name, if queue.paused { "paused" } else { "open" })))
}

#[derive(Debug, Serialize)]
struct Line {
    name: QueueName,
    paused: bool,
    /// Whether remote workers lease from it, and ours leave it alone unless they name it.
    remote: bool,
    queued: u64,
    scheduled: u64,
    running: u64,
}

pub(super) async fn run(ctx: &Context, json: bool) -> Result<ExitCode> {
    let mut lines = Vec::new();
    for row in upkeep::queues(ctx).await? {
        let depths = depths(ctx, &row.name).await?;
        lines.push(Line {
            name: row.name,
            paused: row.is_paused,
            remote: row.is_remote,
            queued: depths.queued,
            scheduled: depths.scheduled,
            running: depths.running,
        });
    }
    if json {
        return Ok(print_json(&lines));
    }
    let rows = lines.iter().map(|line| {
        let state = if line.paused { "paused" } else { "open" };
        let remote = if line.remote { "yes" } else { "no" };
        vec![
            line.name.to_string(),
            state.to_owned(),
            remote.to_owned(),
            line.queued.to_string(),
            line.scheduled.to_string(),
            line.running.to_string(),
        ]
    });
    Ok(print_table(&["QUEUE", "STATE", "REMOTE", "QUEUED", "SCHEDULED", "RUNNING"], &rows.collect::<Vec<_>>()))
}
