//! `queues`: every queue and how deep it is.

use super::{print_json, print_table};
use serde::Serialize;
use shared::{
    Context, Result,
    jobs::{
        QueueName,
        engine::{depths, upkeep},
    },
};
use std::process::ExitCode;

#[derive(Debug, Serialize)]
struct Line {
    name: QueueName,
    paused: bool,
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
        vec![line.name.to_string(), state.to_owned(), line.queued.to_string(), line.scheduled.to_string(), line.running.to_string()]
    });
    Ok(print_table(&["QUEUE", "STATE", "QUEUED", "SCHEDULED", "RUNNING"], &rows.collect::<Vec<_>>()))
}
