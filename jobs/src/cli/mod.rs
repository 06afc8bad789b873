//! The command line of `millrace-jobs`.

mod dead;
mod inspect;
mod queues;
mod work;
mod worker;

use crate::child::{Assignment, Duty};
use clap::{Args, Parser, Subcommand, ValueEnum};
use shared::{
    Caller, Context, Role,
    caller::Credential,
    capacity::pools,
    config::{Layers, Settings},
    ids::{SessionId, UserId, WorkerId},
    jobs::engine::Nonce,
};
use std::{
    future::Future,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};
use uuid::Uuid;

/// The workers of Millrace. Settings come from the environment; .env.example lists them.
#[derive(Debug, Parser)]
#[command(name = "millrace-jobs", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run jobs until told to stop: TERM finishes what runs, a second TERM or QUIT ends it, TSTP leases nothing more. HUP reads LOG_LEVEL
    /// again.
    Work(WorkFlags),
    /// One child of a worker; only `work` starts it.
    #[command(hide = true)]
    Child(ChildFlags),
    /// Ask the running workers, over Redis.
    Inspect {
        what: Inspected,
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// List, requeue or delete a queue's dead letters.
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Remove a queue's waiting jobs, or its jobs of one state; what runs stays.
    Purge {
        queue: String,
        #[arg(long)]
        state: Option<String>,
        /// One JSON document instead of a sentence.
        #[arg(long)]
        json: bool,
    },
    /// Show every queue and how deep it is, or pause or resume one.
    Queues {
        #[command(subcommand)]
        change: Option<queues::Change>,
        /// One JSON document instead of a table.
        #[arg(long, global = true)]
        json: bool,
    },
    /// Tell a running worker what to do, wherever it runs; it hears within two seconds.
    #[command(subcommand)]
    Worker(worker::Tell),
}

/// What a child is told by its supervisor.
#[derive(Debug, Args)]
struct ChildFlags {
    #[arg(long)]
    worker_id: WorkerId,
    #[arg(long)]
    index: usize,
    #[arg(long)]
    slots: usize,
    #[arg(long)]
    supervisor_pid: u32,
    #[arg(long)]
    nonce: Uuid,
    #[arg(long)]
    black_box: PathBuf,
    /// Run suspects of a crash, one at a time.
    #[arg(long)]
    quarantine: bool,
    /// Run no jobs, and maintain the queues.
    #[arg(long, conflicts_with = "quarantine")]
    maintenance: bool,
    #[arg(long)]
    max_tasks: u64,
    #[arg(long)]
    connections: u32,
    #[arg(long, allow_hyphen_values = true)]
    clock_correction_ms: i64,
}

impl ChildFlags {
    fn assignment(self, settings: &Settings) -> Assignment {
        let duty = match (self.quarantine, self.maintenance) {
            (true, _) => Duty::Quarantine,
            (false, true) => Duty::Maintenance,
            (false, false) => Duty::Ordinary,
        };
        Assignment {
            worker_id: self.worker_id,
            index: self.index,
            slots: self.slots,
            supervisor_pid: self.supervisor_pid,
            nonce: Nonce(self.nonce),
            black_box: self.black_box,
            duty,
            max_tasks: self.max_tasks,
            pools: pools::of_worker(self.connections, settings.n_children()),
            clock_correction_ms: self.clock_correction_ms,
        }
    }
}

#[derive(Debug, Args)]
struct WorkFlags {
    /// Overrides WORKER_QUEUES.
    #[arg(long, short = 'Q', value_name = "QUEUE,…")]
    queues: Option<String>,
    /// Overrides WORKER_CONCURRENCY.
    #[arg(long, short)]
    concurrency: Option<usize>,
    /// Overrides WORKER_CHILDREN.
    #[arg(long)]
    children: Option<usize>,
}

impl WorkFlags {
    /// As settings; the children of this worker get them by their environment.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let number = |name, value: Option<usize>| value.map(|value| (name, value.to_string()));
        let queues = self.queues.clone().map(|queues| ("WORKER_QUEUES", queues));
        let numbers = [number("WORKER_CONCURRENCY", self.concurrency), number("WORKER_CHILDREN", self.children)];
        queues.into_iter().chain(numbers.into_iter().flatten()).collect()
    }
}

/// What `inspect` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Inspected {
    /// Jobs that run.
    Active,
    /// Jobs that are leased and wait for a slot.
    Reserved,
    /// Each worker's counts and children.
    Stats,
    /// Which workers answer; exit code 1 if none does.
    Ping,
}

/// Exit code of a command that was called or configured wrongly.
const MISUSE: u8 = 2;

impl Cli {
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Work(flags) => {
                let flags = flags.settings();
                with_settings(&flags, |settings, notices| work::supervise(settings, &notices, &flags))
            }
            // Its supervisor has told the notices.
            Command::Child(flags) => with_settings(&[], |settings, _| {
                let assignment = flags.assignment(&settings);
                work::child(settings, assignment)
            }),
            Command::Inspect { what, json } => with_context(async move |ctx| inspect::run(&ctx, what, json).await),
            Command::Dead(command) => with_context(async move |ctx| dead::run(&ctx, command).await),
            Command::Purge { queue, state, json } => with_context(async move |ctx| dead::purge(&ctx, &queue, state.as_deref(), json).await),
            Command::Queues { change: None, json } => with_context(async move |ctx| queues::run(&ctx, json).await),
            Command::Queues { change: Some(change), json } => with_context(async move |ctx| queues::change(&ctx, &change, json).await),
            Command::Worker(tell) => with_context(async move |ctx| worker::run(&ctx, &tell).await),
        }
    }
}

/// Reads the settings and runs with them and the notices of their reading, or lists all that is wrong with them.
fn with_settings(flags: &[(&str, String)], run: impl FnOnce(Settings, Vec<String>) -> ExitCode) -> ExitCode {
    let loaded = Layers::from_process(flags).and_then(|layers| {
        // A name that is misspelt is often the reason for what is wrong.
        let settings = Settings::load(&layers).inspect_err(|_| complain_of(&layers.notices))?;
        Ok((settings, layers.notices))
    });
    match loaded {
        Ok((settings, notices)) => run(settings, notices),
        Err(problems) => {
            complain(&problems.to_string());
            ExitCode::from(MISUSE)
        }
    }
}

/// For commands that only ask something.
fn with_context<F: Future<Output = shared::Result<ExitCode>>>(ask: impl FnOnce(Context) -> F) -> ExitCode {
    with_settings(&[], |settings, notices| {
        complain_of(&notices);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let answer = runtime.block_on(async { ask(Context::open(settings)?).await });
        answer.unwrap_or_else(|error| {
            complain(&error.told());
            ExitCode::FAILURE
        })
    })
}

/// Whoever can run these commands can read and write both servers: no smaller permission is to be had.
fn operator() -> Caller {
    Caller::new(UserId(Uuid::nil()), Role::Admin, Role::Admin.scopes(), Credential::Session(SessionId(Uuid::nil())))
}

fn complain(text: &str) {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(io::stderr(), "{}", text.trim_end()));
}

fn complain_of(notices: &[String]) {
    notices.iter().for_each(|notice| complain(notice));
}

/// Prints a table whose columns are as wide as they need to be.
fn print_table(header: &[&str], rows: &[Vec<String>]) -> ExitCode {
    let width = |at: usize| rows.iter().map(|row| row[at].len()).chain([header[at].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = line(header.to_vec());
    for row in rows {
        text.push('\n');
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    print(&text)
}

fn print_json(value: &impl serde::Serialize) -> ExitCode {
    print(&serde_json::to_string_pretty(value).expect("views have only text keys"))
}

fn print(text: &str) -> ExitCode {
    // A closed pipe (`… | head`) is the reader's choice, not an error.
    drop(writeln!(io::stdout(), "{text}"));
    ExitCode::SUCCESS
}
