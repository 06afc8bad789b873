//! `millrace-jobs`: see [`jobs::cli`] for the commands.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    jobs::cli::Cli::parse().run()
}
