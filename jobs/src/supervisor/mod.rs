//! The parent process of a worker. It runs no jobs, so nothing a job does can harm it: it starts the children, restarts
//! those that end, passes signals on, and answers probes and metrics for all of them.
//!
//! Signals: TERM or INT = warm stop (children stop leasing, hand back what they have not started, finish what runs);
//! a second one, or QUIT = cold stop; TSTP = quiet (lease no more, stay up); HUP = reload. Should the parent be killed,
//! each child sees its standard input close and stops warm by itself.

mod child;
mod listener;
mod merge;
pub mod pipe;
mod restart;

use child::{Child, Children};
use nix::sys::signal::Signal as UnixSignal;
use shared::{Error, Result, config::Settings, ids::WorkerId, telemetry::metrics};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

/// What a child needs beyond the grace of its jobs: settling, releasing, closing.
const CHILD_MARGIN: Duration = Duration::from_secs(10);
/// How long children get to end after a cold stop.
const COLD_PATIENCE: Duration = Duration::from_secs(3);
/// Exit code of a stop that had to kill.
const KILLED: u8 = 137;

/// Runs until a signal ends it.
pub fn run(settings: Settings) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    match runtime.block_on(supervise(settings)) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "the supervisor cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn supervise(settings: Settings) -> Result<ExitCode> {
    let mut signals = Signals::install().map_err(Error::internal)?;
    let worker_id = WorkerId::new();
    let children = Arc::new(Children::default());
    let metrics = metrics::install();
    if let Some(address) = settings.worker_metrics_addr {
        let server = listener::Listener::bind(address, Arc::clone(&children), metrics).await.map_err(Error::internal)?;
        tokio::spawn(server.serve());
    }
    let stopping = CancellationToken::new();
    let mut keepers = JoinSet::new();
    for (index, slots) in deal_slots(settings.worker_concurrency, settings.worker_children()).into_iter().enumerate() {
        let child = Child { worker_id, index, slots };
        keepers.spawn(restart::keep(child, Arc::clone(&children), stopping.clone()));
    }
    tracing::info!(%worker_id, children = settings.worker_children(), slots = settings.worker_concurrency, "worker started");
    let asked = loop {
        match signals.next().await {
            Heard::Quiet => children.signal_all(UnixSignal::SIGTSTP),
            Heard::Reload => children.signal_all(UnixSignal::SIGHUP),
            stop @ (Heard::WarmStop | Heard::ColdStop) => break stop,
        }
    };
    stopping.cancel();
    let grace = Duration::from_secs(settings.worker_grace_s) + CHILD_MARGIN;
    Ok(stop(asked, &children, &mut keepers, &mut signals, grace).await)
}

/// Warm first, unless asked to be quick; then cold; then not asking any more.
async fn stop(asked: Heard, children: &Children, keepers: &mut JoinSet<()>, signals: &mut Signals, grace: Duration) -> ExitCode {
    if asked == Heard::WarmStop {
        tracing::info!(grace_s = grace.as_secs(), "stopping warm");
        children.signal_all(UnixSignal::SIGTERM);
        tokio::select! {
            () = all_ended(keepers) => return stopped(),
            _ = signals.next() => {}
            () = time::sleep(grace) => {}
        }
    }
    tracing::warn!("stopping cold");
    children.signal_all(UnixSignal::SIGQUIT);
    if time::timeout(COLD_PATIENCE, all_ended(keepers)).await.is_ok() {
        return stopped();
    }
    children.signal_all(UnixSignal::SIGKILL);
    all_ended(keepers).await;
    tracing::warn!("children were killed; their leases expire by themselves");
    ExitCode::from(KILLED)
}

fn stopped() -> ExitCode {
    tracing::info!("worker stopped");
    ExitCode::SUCCESS
}

async fn all_ended(keepers: &mut JoinSet<()>) {
    while keepers.join_next().await.is_some() {}
}

/// Slots over children as evenly as whole numbers allow; the first get the remainder.
fn deal_slots(n_slots: usize, n_children: usize) -> Vec<usize> {
    (0..n_children).map(|index| n_slots / n_children + usize::from(index < n_slots % n_children)).collect()
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    WarmStop,
    ColdStop,
    Quiet,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    stop: Signal,
    hangup: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            stop: signal(SignalKind::from_raw(UnixSignal::SIGTSTP as i32))?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::WarmStop,
            _ = self.interrupt.recv() => Heard::WarmStop,
            _ = self.quit.recv() => Heard::ColdStop,
            _ = self.stop.recv() => Heard::Quiet,
            _ = self.hangup.recv() => Heard::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::deal_slots;

    #[test]
    fn slots_are_dealt_out_whole() {
        assert_eq!(deal_slots(12, 4), [3, 3, 3, 3]);
        assert_eq!(deal_slots(7, 3), [3, 2, 2]);
        assert_eq!(deal_slots(1, 1), [1]);
    }
}
