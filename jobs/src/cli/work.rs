//! `work` and the hidden `child`: a process with logs and a runtime around the supervisor or a child.

use crate::{
    child::{self, Assignment},
    supervisor,
};
use shared::{Context, config::Settings, telemetry};
use std::{process::ExitCode, time::Duration};
use tokio::runtime::Runtime;

pub(super) fn supervise(settings: Settings, flags: &[(&'static str, String)]) -> ExitCode {
    drop(telemetry::logs::init(&settings));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime starts");
    finish(runtime, supervisor::run(settings, flags.to_vec()))
}

pub(super) fn child(settings: Settings, assignment: Assignment) -> ExitCode {
    drop(telemetry::logs::init(&settings));
    drop(telemetry::metrics::install());
    log_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(settings.blocking_threads())
        .thread_name("jobs-w")
        .enable_all()
        .build()
        .expect("a runtime starts");
    finish(runtime, async { child::run(Context::open(settings)?, assignment).await })
}

/// Does not wait for blocked threads at the end: what they do no longer counts.
fn finish(runtime: Runtime, run: impl Future<Output = shared::Result<ExitCode>>) -> ExitCode {
    let code = runtime.block_on(run).unwrap_or_else(|error| {
        tracing::error!(%error, "the process cannot go on");
        ExitCode::FAILURE
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// A panic is caught and becomes an outcome; its place is worth a log line.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a panic")));
}
