//! `migrate`: applies the migrations built into this binary.

use shared::{
    config::Settings,
    pg::{self, Applied},
};
use std::process::ExitCode;

pub(super) fn run(settings: &Settings) -> ExitCode {
    let mut n_applied = 0;
    let tell = |Applied { version, name, took }: &Applied| {
        n_applied += 1;
        // As it goes: the next one may take long.
        super::print(format!("applied {version:04} {name} ({:.3} s)\n", took.as_secs_f64()));
    };
    match super::block_on(pg::migrate(settings, tell)) {
        Ok(()) if n_applied == 0 => super::print("The database is up to date: nothing to do.\n"),
        Ok(()) => super::print(format!("The database is up to date: {n_applied} applied.\n")),
        Err(error) => super::failed(&error),
    }
}
