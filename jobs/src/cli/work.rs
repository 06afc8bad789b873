//! `work` and the hidden `child`: a process with logs and a runtime around the supervisor or a child.

use crate::{
    child::{self, Assignment},
    supervisor,
};
use shared::{
    Context,
    config::Settings,
    telemetry::{self, metrics::Teller},
    vital,
};
use std::{process::ExitCode, time::Duration};
use tokio::runtime::{Builder, Runtime};

/// Threads for leasing, heartbeats and settling in a child: one leases while the other writes.
const ENGINE_THREADS: usize = 2;

/// Threads of a supervisor: it writes the outcomes of all its children.
const SUPERVISOR_THREADS: usize = 2;

pub(super) fn supervise(settings: Settings, notices: &[String], flags: &[(&'static str, String)]) -> ExitCode {
    let log_level = telemetry::logs::init(&settings);
    for notice in notices {
        tracing::warn!(notice, "a name among the settings is not as it should be");
    }
    drop(telemetry::metrics::install(Teller::Worker));
    telemetry::traces::install(&settings);
    vital::log_panics();
    let runtime = Builder::new_multi_thread()
        .worker_threads(SUPERVISOR_THREADS)
        .thread_name("jobs-supervisor")
        .enable_all()
        .build()
        .expect("a runtime starts");
    let code = run(&runtime, supervisor::run(settings, flags.to_vec(), log_level));
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

pub(super) fn child(settings: Settings, assignment: Assignment) -> ExitCode {
    let log_level = telemetry::logs::init(&settings);
    drop(telemetry::metrics::install_tally());
    telemetry::traces::install(&settings);
    vital::log_panics();
    // Handlers have threads of their own: one that blocks them all stops neither heartbeats nor settling nor handing back.
    let handlers = Builder::new_multi_thread()
        .max_blocking_threads(settings.blocking_threads())
        .thread_name("jobs-handler")
        .enable_all()
        .build()
        .expect("a runtime starts");
    let engine = Builder::new_multi_thread()
        .worker_threads(ENGINE_THREADS)
        .thread_name("jobs-engine")
        .enable_all()
        .build()
        .expect("a runtime starts");
    let handle = handlers.handle().clone();
    let most = assignment.connections();
    let code = run(&engine, async { child::run(Context::open_lazily(settings, most)?, assignment, handle, log_level).await });
    // Everything is settled and said: their threads end with the process, which costs less than stopping them, one by one, before.
    std::mem::forget((engine, handlers));
    code
}

fn run(runtime: &Runtime, work: impl Future<Output = shared::Result<ExitCode>>) -> ExitCode {
    runtime.block_on(work).unwrap_or_else(|error| {
        tracing::error!(error = error.told(), "the process cannot go on");
        ExitCode::FAILURE
    })
}
