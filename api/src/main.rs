//! `millrace-api`: see [`api::cli`] for the commands.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    api::cli::Cli::parse().run()
}
