//! The children that run at the moment, and how to reach them.

use super::pipe::Pipe;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use shared::ids::WorkerId;
use std::{
    collections::BTreeMap,
    env, io,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::process::{self, Command};

/// One place among the children.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    pub(super) worker_id: WorkerId,
    pub(super) index: usize,
    pub(super) slots: usize,
}

impl Child {
    /// Starts the process: this same binary, executed clean. Its group is its own, so that Ctrl-C reaches the parent
    /// alone, which then stops the children in order.
    pub(super) fn start(&self) -> io::Result<process::Child> {
        Command::new(env::current_exe()?)
            .arg("child")
            .args(["--worker-id", &self.worker_id.to_string()])
            .args(["--index", &self.index.to_string()])
            .args(["--slots", &self.slots.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// A child that runs.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) pid: u32,
    pub(super) pipe: Arc<Pipe>,
}

/// A child as the health answer shows it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ChildHealth {
    pub(super) index: usize,
    pub(super) pid: Option<u32>,
    pub(super) restarts: u64,
}

#[derive(Debug, Default)]
struct Place {
    running: Option<Running>,
    starts: u64,
}

/// All places, by index.
#[derive(Debug, Default)]
pub(super) struct Children(Mutex<BTreeMap<usize, Place>>);

impl Children {
    /// Nothing that can panic runs under the lock.
    fn places(&self) -> MutexGuard<'_, BTreeMap<usize, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn started(&self, index: usize, running: Running) {
        let mut places = self.places();
        let place = places.entry(index).or_default();
        place.running = Some(running);
        place.starts += 1;
    }

    pub(super) fn ended(&self, index: usize) {
        self.places().entry(index).or_default().running = None;
    }

    pub(super) fn running(&self) -> Vec<(usize, Running)> {
        self.places().iter().filter_map(|(index, place)| Some((*index, place.running.clone()?))).collect()
    }

    pub(super) fn health(&self) -> Vec<ChildHealth> {
        let health = |(index, place): (&usize, &Place)| ChildHealth {
            index: *index,
            pid: place.running.as_ref().map(|running| running.pid),
            restarts: place.starts.saturating_sub(1),
        };
        self.places().iter().map(health).collect()
    }

    /// A child that has just ended is no error: its keeper sees it.
    pub(super) fn signal_all(&self, signal: Signal) {
        for (_, running) in self.running() {
            let pid = i32::try_from(running.pid).expect("a pid is positive and fits");
            if let Err(error) = kill(Pid::from_raw(pid), signal) {
                tracing::debug!(pid, %signal, %error, "signal not delivered");
            }
        }
    }
}
