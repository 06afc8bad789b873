//! `check-config`: the settings in force, without secrets.

use shared::config::Settings;
use std::{fmt::Write, process::ExitCode};

pub(super) fn run(settings: &Settings) -> ExitCode {
    let mut text = String::from("The configuration is valid.\n");
    let facts = [
        ("profile", settings.profile.to_string()),
        ("listens on", format!("{}:{}", settings.api_host, settings.api_port)),
        ("worker threads", settings.api_workers().to_string()),
        ("requests in flight", (settings.api_workers() * settings.api_concurrency_limit).to_string()),
        ("blocking threads", settings.blocking_threads().to_string()),
        ("PostgreSQL connections", format!("{} to {}", settings.db_pool_min(), settings.db_pool_max())),
        ("token signature", format!("{:?}", settings.jwt_alg)),
        ("registration", format!("{:?}", settings.registration).to_lowercase()),
        (
            "worker children × slots",
            format!("{} × {}", settings.worker_children(), settings.worker_concurrency / settings.worker_children()),
        ),
    ];
    for (name, value) in facts {
        writeln!(text, "  {name:<24} {value}").expect("writing to a string cannot fail");
    }
    super::print(text)
}
