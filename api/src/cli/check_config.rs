//! `check-config`: the settings in force, without secrets, what `auto` comes to on this machine, and the rules of channels.

use shared::config::{Layers, Settings};
use std::{fmt::Write, process::ExitCode};

pub(super) fn run(layers: &Layers, settings: &Settings) -> ExitCode {
    let mut text = String::from("# The configuration is valid. In force:\n");
    for (name, value) in layers.in_force() {
        let comes_to = match name {
            "API_MAX_CONNECTIONS" => (settings.connections_per_worker() * settings.api_workers()).to_string(),
            "API_WORKERS" => settings.api_workers().to_string(),
            "BLOCKING_THREADS" => settings.blocking_threads().to_string(),
            "DB_POOL_MIN" => settings.db_pool_min().to_string(),
            "DB_POOL_MAX" => settings.db_pool_max().to_string(),
            "PASSWORD_HASHES_MAX" => settings.password_hashes_max().to_string(),
            "WORKER_CHILDREN" => settings.worker_children().to_string(),
            _ => value.clone(),
        };
        let note = if comes_to == value { String::new() } else { format!("   # here {comes_to}") };
        writeln!(text, "{name}={value}{note}").expect("writing to a string cannot fail");
    }
    text.push_str("\n# The rules of channels, as tables of CONFIG_FILE would say them:\n");
    for line in settings.namespaces.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").lines() {
        writeln!(text, "# {line}").expect("writing to a string cannot fail");
    }
    super::print(text)
}
