//! The command line of `millrace-jobs`.

use crate::supervisor;
use clap::{Args, Parser, Subcommand};
use shared::{
    config::{Layers, Problems, Settings},
    ids::WorkerId,
    telemetry::logs,
};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// The workers of Millrace. Settings come from the environment; .env.example lists them.
#[derive(Debug, Parser)]
#[command(name = "millrace-jobs", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a worker: a supervisor and its children.
    Work,
    /// Run jobs; started by the supervisor.
    #[command(hide = true)]
    Child(ChildArgs),
}

/// What the supervisor tells a child about itself.
#[derive(Debug, Clone, Args)]
pub struct ChildArgs {
    /// The worker instance it belongs to.
    #[arg(long)]
    pub worker_id: WorkerId,
    /// Its place among the children, from 0.
    #[arg(long)]
    pub index: usize,
    /// Jobs it may run at once.
    #[arg(long)]
    pub slots: usize,
}

/// Exit code of a command that was called or configured wrongly.
const MISUSE: u8 = 2;

impl Cli {
    pub fn run(self) -> ExitCode {
        let (settings, notices) = match load() {
            Ok(loaded) => loaded,
            Err(problems) => {
                drop(write!(io::stderr(), "{problems}"));
                return ExitCode::from(MISUSE);
            }
        };
        match self.command {
            Command::Work => {
                logs::init(&settings);
                for notice in notices {
                    tracing::warn!(notice, "deprecated setting");
                }
                supervisor::run(settings)
            }
            Command::Child(_) => ExitCode::FAILURE,
        }
    }
}

fn load() -> Result<(Settings, Vec<String>), Problems> {
    let layers = Layers::from_process(&[])?;
    Ok((Settings::load(&layers)?, layers.notices))
}
