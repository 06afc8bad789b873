//! `inspect`: what the workers say of themselves in Redis.

use super::{Inspected, operator, print_json, print_table};
use shared::{
    Context, Result,
    jobs::workers::{self, WorkerDetail, WorkerState},
    page::PageQuery,
};
use std::process::ExitCode;
use time::format_description::well_known::Rfc3339;

pub(super) async fn run(ctx: &Context, what: Inspected, json: bool) -> Result<ExitCode> {
    let workers = all(ctx).await?;
    let is_alive = |detail: &&WorkerDetail| detail.worker.state != WorkerState::Lost;
    let nobody = workers.iter().find(is_alive).is_none();
    if json {
        print_json(&workers);
    } else {
        match what {
            Inspected::Active => active(&workers),
            Inspected::Reserved => reserved(&workers),
            Inspected::Stats => stats(&workers),
            Inspected::Ping => ping(&workers),
        };
    }
    Ok(if what == Inspected::Ping && nobody { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn all(ctx: &Context) -> Result<Vec<WorkerDetail>> {
    let us = operator();
    let request = PageQuery { limit: Some(1_000), cursor: None }.parse()?;
    let mut details = Vec::new();
    for worker in workers::list(ctx, &us, &request).await?.items {
        details.push(workers::get(ctx, &us, worker.id).await?);
    }
    Ok(details)
}

fn active(workers: &[WorkerDetail]) -> ExitCode {
    let rows = workers.iter().flat_map(|detail| {
        detail.active.iter().map(|job| {
            vec![
                detail.worker.name.clone(),
                job.job_id.to_string(),
                job.kind.clone(),
                job.attempt.to_string(),
                job.since.replace_nanosecond(0).unwrap_or(job.since).format(&Rfc3339).unwrap_or_default(),
            ]
        })
    });
    print_table(&["WORKER", "JOB", "KIND", "ATTEMPT", "SINCE"], &rows.collect::<Vec<_>>())
}

fn reserved(workers: &[WorkerDetail]) -> ExitCode {
    let rows = workers.iter().flat_map(|detail| detail.reserved.iter().map(|job| vec![detail.worker.name.clone(), job.job_id.to_string()]));
    print_table(&["WORKER", "JOB"], &rows.collect::<Vec<_>>())
}

fn stats(workers: &[WorkerDetail]) -> ExitCode {
    let rows = workers.iter().map(|WorkerDetail { worker, .. }| {
        vec![
            worker.id.to_string(),
            worker.name.clone(),
            state(worker.state).to_owned(),
            queues(&worker.queues),
            worker.children.len().to_string(),
            worker.concurrency.to_string(),
            worker.counts.active.to_string(),
            worker.counts.reserved.to_string(),
            worker.counts.done.to_string(),
            worker.counts.failed.to_string(),
        ]
    });
    let header = ["ID", "NAME", "STATE", "QUEUES", "CHILDREN", "CONCURRENCY", "ACTIVE", "RESERVED", "DONE", "FAILED"];
    print_table(&header, &rows.collect::<Vec<_>>())
}

/// No queue is called `*`: it is all that are not remote.
fn queues(names: &[String]) -> String {
    if names.is_empty() { "*".to_owned() } else { names.join(",") }
}

fn ping(workers: &[WorkerDetail]) -> ExitCode {
    let answer = |lost| if lost { "lost" } else { "pong" };
    let rows = workers.iter().map(|detail| vec![detail.worker.name.clone(), answer(detail.worker.state == WorkerState::Lost).to_owned()]);
    print_table(&["WORKER", "ANSWER"], &rows.collect::<Vec<_>>())
}

fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Running => "running",
        WorkerState::Quiet => "quiet",
        WorkerState::Draining => "draining",
        WorkerState::Lost => "lost",
    }
}
