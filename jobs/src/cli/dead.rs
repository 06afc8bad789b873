//! `dead` and `purge`: dead letters of a queue listed, requeued and deleted, and a queue emptied.

use super::{operator, print_json, print_table};
use clap::{Args, Subcommand};
use shared::{
    Context, Result,
    accounts::Origin,
    jobs::{
        JobState, QueueName,
        queues::{self, DeadLetters, GroupBy, ListDead, Purge, SelectDead},
    },
};
use std::process::ExitCode;
use uuid::Uuid;

#[derive(Debug, Subcommand)]
pub(super) enum Dead {
    /// Show dead letters, the newest first.
    List {
        queue: String,
        /// One line for each error instead of one for each job.
        #[arg(long)]
        by_error: bool,
        /// Only those that died of this error.
        #[arg(long, conflicts_with = "by_error")]
        error_code: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: i64,
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Run dead jobs again.
    Requeue {
        queue: String,
        #[command(flatten)]
        which: Which,
        /// One JSON document instead of a sentence.
        #[arg(long)]
        json: bool,
    },
    /// Delete dead jobs with their history.
    Delete {
        queue: String,
        #[command(flatten)]
        which: Which,
        /// One JSON document instead of a sentence.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// These jobs.
    #[arg(long = "id", value_name = "ID", num_args = 1..)]
    ids: Vec<Uuid>,
    /// All that died of this error.
    #[arg(long)]
    error_code: Option<String>,
    /// All of the queue.
    #[arg(long)]
    all: bool,
}

impl Which {
    fn select(self) -> SelectDead {
        let ids = Some(self.ids).filter(|ids| !ids.is_empty());
        SelectDead { ids, error_code: self.error_code, all: self.all.then_some(true) }
    }
}

pub(super) async fn run(ctx: &Context, command: Dead) -> Result<ExitCode> {
    match command {
        Dead::List { queue, by_error, error_code, limit, json } => {
            let query = ListDead { group: by_error.then_some(GroupBy::Error), error_code, limit: Some(limit), cursor: None };
            list(ctx, &QueueName::new(&queue)?, &query, json).await
        }
        Dead::Requeue { queue, which, json } => {
            let (name, which) = (QueueName::new(&queue)?, which.select());
            let mut n_jobs = 0;
            loop {
                let step = queues::requeue_dead(ctx, &operator(), &name, &which, &Origin::default()).await?;
                n_jobs += step.requeued;
                if !step.more {
                    return Ok(told("requeued", n_jobs, json));
                }
            }
        }
        Dead::Delete { queue, which, json } => {
            let (name, which) = (QueueName::new(&queue)?, which.select());
            let mut n_jobs = 0;
            loop {
                let step = queues::delete_dead(ctx, &operator(), &name, &which, &Origin::default()).await?;
                n_jobs += step.removed;
                if !step.more {
                    return Ok(told("removed", n_jobs, json));
                }
            }
        }
    }
}

async fn list(ctx: &Context, name: &QueueName, query: &ListDead, json: bool) -> Result<ExitCode> {
    let letters = queues::list_dead(ctx, &operator(), name, query).await?;
    if json {
        return Ok(print_json(&letters));
    }
    Ok(match letters {
        DeadLetters::Groups(page) => {
            let row = |group: &queues::DeadGroup| {
                vec![group.code.clone(), group.count.to_string(), group.sample_id.to_string(), one_line(&group.message)]
            };
            print_table(&["CODE", "JOBS", "SAMPLE", "MESSAGE"], &page.items.iter().map(row).collect::<Vec<_>>())
        }
        DeadLetters::Jobs(page) => {
            let rows = page.items.iter().map(|job| {
                let (code, message) = job.error.as_ref().map_or(("", ""), |error| (error.code.as_str(), error.message.as_str()));
                vec![job.id.to_string(), job.kind.to_string(), job.attempt.to_string(), code.to_owned(), one_line(message)]
            });
            print_table(&["JOB", "KIND", "ATTEMPT", "CODE", "MESSAGE"], &rows.collect::<Vec<_>>())
        }
    })
}

fn told(deed: &'static str, n_jobs: u64, json: bool) -> ExitCode {
    if json { print_json(&std::collections::BTreeMap::from([(deed, n_jobs)])) } else { super::print(&format!("{n_jobs} {deed}")) }
}

/// What of a message fits in a table.
fn one_line(message: &str) -> String {
    message.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Removes until nothing is left of what was asked for.
pub(super) async fn purge(ctx: &Context, queue: &str, state: Option<&str>, json: bool) -> Result<ExitCode> {
    let purge = Purge { state: state.map(str::parse::<JobState>).transpose()? };
    let name = QueueName::new(queue)?;
    let mut n_jobs = 0;
    loop {
        let step = queues::purge(ctx, &operator(), &name, &purge, &Origin::default()).await?;
        n_jobs += step.removed;
        if step.removed == 0 {
            return Ok(told("removed", n_jobs, json));
        }
    }
}
