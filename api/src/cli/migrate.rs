//! `migrate`: applies the migrations built into this binary.

use shared::{config::Settings, pg};
use std::process::ExitCode;

pub(super) fn run(settings: &Settings) -> ExitCode {
    match super::block_on(pg::migrate(settings)) {
        Ok(()) => super::print("The database is up to date.\n"),
        Err(error) => super::failed(&error),
    }
}
