//! `millrace-loadtest`: see the library for what it does. Exit codes: 0 measured, 1 could not
//! measure, 2 bad arguments.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use loadtest::Output;
use loadtest::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut results = io::stdout().lock();
    let mut notes = io::stderr();
    let outcome = cli.run(&mut Output::new(&mut results, &mut notes));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere is left to report that standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
