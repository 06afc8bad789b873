//! `serve`: start, run, and stop in the written order.
//!
//! Stop: readiness says draining, answers close their connections, and whoever waits for a job is answered → `DRAIN_DELAY_S` for balancers to notice →
//! sockets are closed a few at a time over `WS_DRAIN_S` → HTTP stops, requests in flight finish → the node says goodbye and the pools close → exit 0. A second signal exits at once.

use crate::{server, state::AppState};
use actix_web::dev::ServerHandle;
use shared::{
    Error, Result,
    config::{Exposure, Settings},
    jobs::wait,
    nodes,
    telemetry::{
        logs::{self, LogLevel},
        metrics, pulse, service,
        traces::{self, export::Exporter},
    },
    vital::{self, vital},
};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time,
};
use tokio_util::sync::CancellationToken;

/// How long the collector may take for the last traces.
const LAST_TRACES: Duration = Duration::from_secs(1);
/// A pool that is being filled gives up by itself; this is for a thread that does not get on.
const FILLED_WITHIN: Duration = Duration::from_secs(10);
/// Exit code of a process that was told twice.
const INTERRUPTED: u8 = 130;

pub(super) fn run(settings: Settings, notices: Vec<String>) -> ExitCode {
    let log_level = logs::init(&settings);
    traces::install(&settings);
    for notice in notices {
        tracing::warn!(notice, "a name among the settings is not as it should be");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("api-background")
        .max_blocking_threads(settings.blocking_threads())
        .enable_all()
        .build()
        .expect("a runtime starts");
    match runtime.block_on(serve(settings, log_level)) {
        Ok(code) => code,
        Err(error) => super::failed(&error),
    }
}

async fn serve(settings: Settings, log_level: LogLevel) -> Result<ExitCode> {
    let mut signals = Signals::install().map_err(Error::internal)?;
    vital::log_panics();
    let metrics_addr = settings.metrics_addr;
    let state = server::open_state(settings).await?;
    let is_development = state.ctx.settings().profile.is_development();
    state.ctx.redis.refuse_eviction(is_development).await?;
    let (server, address) = server::bind(state.clone()).map_err(Error::internal)?;
    let handle = server.handle();
    let mut running = tokio::spawn(server);
    if let Some(metrics_addr) = metrics_addr {
        tokio::spawn(server::bind_metrics(state.clone(), metrics_addr).map_err(Error::internal)?);
    }
    tokio::spawn(vital("heartbeat", keep_beating(state.clone())));
    tokio::spawn(vital("metrics", metrics::keep_up(state.metrics.clone())));
    tokio::spawn(vital("watch", keep_watch(state.clone())));
    let exporter = Exporter::new(&state.ctx.settings(), "millrace-api")?.map(Arc::new);
    if let Some(exporter) = exporter.clone() {
        tokio::spawn(async move { exporter.keep_sending().await });
    }
    let stop_background = CancellationToken::new();
    tokio::spawn(vital("revocations", state.accounts.clone().run_background(stop_background.clone())));
    let _stop_background = stop_background.drop_guard();
    tokio::spawn(service::keep_alive());
    if time::timeout(FILLED_WITHIN, state.filling.ended()).await.is_err() {
        tracing::warn!("the pools are not filled yet, and nobody waits for them any longer");
    }
    service::ready();
    tracing::info!(%address, workers = state.ctx.settings().api_workers(), node_id = %state.node_id, "listening");
    loop {
        tokio::select! {
            heard = signals.next() => match heard {
                Heard::Reload => reload(&state, &log_level),
                Heard::Stop => break,
            },
            ended = &mut running => {
                ended.map_err(Error::internal)?.map_err(Error::internal)?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    tokio::select! {
        () = stop(&state, &handle, exporter.as_deref()) => Ok(ExitCode::SUCCESS),
        () = signals.second_stop() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// What `/metrics` tells beyond what is counted, where somebody may read it.
async fn keep_watch(state: AppState) {
    let settings = state.ctx.settings();
    let is_told = settings.metrics != Exposure::Off || settings.metrics_addr.is_some();
    drop(settings);
    let looks = async {
        if is_told {
            state.overview.keep(&state.ctx).await;
        }
    };
    tokio::join!(pulse::keep(&state.ctx, "api-background"), looks);
}

async fn keep_beating(state: AppState) {
    let mut ticks = time::interval(nodes::HEARTBEAT);
    loop {
        ticks.tick().await;
        if let Err(error) = nodes::beat(&state.ctx, state.node_id, "api").await {
            tracing::debug!(%error, "the heartbeat did not reach Redis");
        }
    }
}

/// SIGHUP: a configuration with problems changes nothing.
fn reload(state: &AppState, log_level: &LogLevel) {
    match super::load(&[]) {
        Ok((settings, _)) => {
            state.ctx.reload(&settings);
            log_level.set(&settings.log_level);
            match state.accounts.reload_keys() {
                Ok(()) => tracing::info!("settings and keys reloaded"),
                Err(error) => tracing::error!(%error, "settings reloaded; the keys stay as they were"),
            }
        }
        Err(problems) => tracing::error!(%problems, "settings not reloaded"),
    }
}

async fn stop(state: &AppState, handle: &ServerHandle, exporter: Option<&Exporter>) {
    let delay = Duration::from_secs(state.ctx.settings().drain_delay_s);
    tracing::info!(delay_s = delay.as_secs(), "draining");
    service::stopping();
    state.drain.begin();
    wait::end_all(&state.ctx);
    time::sleep(delay).await;
    state.sockets.drain(Duration::from_secs(state.ctx.settings().ws_drain_s)).await;
    handle.stop(true).await;
    drop(nodes::leave(&state.ctx, state.node_id).await);
    if let Some(exporter) = exporter {
        exporter.flush(LAST_TRACES).await;
    }
    state.ctx.pg.close().await;
    tracing::info!("stopped");
}

/// What a signal asks for.
enum Heard {
    Reload,
    Stop,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::Stop,
            _ = self.interrupt.recv() => Heard::Stop,
            _ = self.hangup.recv() => Heard::Reload,
        }
    }

    async fn second_stop(&mut self) {
        while matches!(self.next().await, Heard::Reload) {}
    }
}
