//! Keeps one place filled: starts a child, waits for its end, starts the next. A child that ends again and again is
//! started ever more slowly.

use super::child::{Child, Children, Running};
use super::pipe::Pipe;
use std::{
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Exit code of a child that asks to be replaced: it has done its number of jobs, or grown too large.
const RECYCLE: i32 = 155;
/// First pause after a crash; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A child that lived so long was healthy: the pauses start over.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Pauses between restarts.
#[derive(Debug, Default)]
struct Backoff {
    n_crashes: u32,
}

impl Backoff {
    fn pause_after(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY_AFTER {
            self.n_crashes = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.n_crashes.min(16)).min(LONGEST_PAUSE);
        self.n_crashes += 1;
        pause
    }
}

/// Returns when `stopping` is set and the child has ended.
pub(super) async fn keep(child: Child, children: Arc<Children>, stopping: CancellationToken) {
    let mut backoff = Backoff::default();
    while !stopping.is_cancelled() {
        let started = Instant::now();
        let status = run_once(&child, &children).await;
        if stopping.is_cancelled() {
            return;
        }
        let pause = match status {
            Some(status) if status.code() == Some(RECYCLE) => Duration::ZERO,
            status => {
                let pause = backoff.pause_after(started.elapsed());
                let status = status.map_or_else(|| "could not be started".to_owned(), |status| status.to_string());
                tracing::error!(index = child.index, status, pause_ms = pause.as_millis(), "child ended; restarting it");
                pause
            }
        };
        tokio::select! {
            () = time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// One life of the child; `None` if it could not be started.
async fn run_once(child: &Child, children: &Children) -> Option<ExitStatus> {
    let mut process = match child.start() {
        Ok(process) => process,
        Err(error) => {
            tracing::error!(index = child.index, %error, "child cannot be started");
            return None;
        }
    };
    let pid = process.id().expect("a child that was not waited for has a pid");
    let (stdin, stdout) = (process.stdin.take().expect("it is piped"), process.stdout.take().expect("it is piped"));
    children.started(child.index, Running { pid, pipe: Arc::new(Pipe::new(stdin, stdout)) });
    tracing::info!(index = child.index, pid, slots = child.slots, "child started");
    let status = process.wait().await;
    children.ended(child.index);
    status.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_in_a_row_are_restarted_ever_more_slowly_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..10).map(|_| backoff.pause_after(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn a_healthy_life_forgives_earlier_crashes() {
        let mut backoff = Backoff::default();
        backoff.pause_after(Duration::ZERO);
        backoff.pause_after(Duration::ZERO);
        assert_eq!(backoff.pause_after(HEALTHY_AFTER), FIRST_PAUSE);
    }
}
