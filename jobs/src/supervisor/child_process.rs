//! One child process as its parent sees it: started afresh by exec (not forked), told by signals, asked over its pipes.
//! The pipe on its standard input is also its lifeline: when the parent dies, however, it ends, and so does the child.

use super::{Order, Plan};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io,
    process::{self, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex, watch},
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest answer that is believed.
const ANSWER_MAX: usize = 16 << 20;

/// The way to ask whichever child is in one place right now; empty between children.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    pipes: Mutex<Option<Pipes>>,
}

#[derive(Debug)]
struct Pipes {
    to_child: ChildStdin,
    from_child: BufReader<ChildStdout>,
}

impl Pulse {
    /// The child's metrics in Prometheus' text form; `None` when there is no child or it does not answer.
    pub(super) async fn metrics(&self) -> Option<String> {
        let mut pipes = self.pipes.lock().await;
        match tokio::time::timeout(ANSWER_TIMEOUT, ask(pipes.as_mut()?)).await {
            Ok(Ok(text)) => Some(text),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a child's metrics could not be read");
                None
            }
            Err(_) => {
                tracing::warn!("a child does not answer");
                None
            }
        }
    }

    pub(super) async fn is_beating(&self) -> bool {
        self.pipes.lock().await.is_some()
    }
}

async fn ask(pipes: &mut Pipes) -> io::Result<String> {
    pipes.to_child.write_all(b"metrics\n").await?;
    let mut length = String::new();
    pipes.from_child.read_line(&mut length).await?;
    let length: usize = length.trim().parse().map_err(io::Error::other)?;
    if length > ANSWER_MAX {
        return Err(io::Error::other("the answer is too long"));
    }
    let mut text = vec![0; length];
    pipes.from_child.read_exact(&mut text).await?;
    String::from_utf8(text).map_err(io::Error::other)
}

#[derive(Debug)]
pub(super) struct ChildProcess {
    child: Child,
    pid: Pid,
    pulse: Arc<Pulse>,
}

impl ChildProcess {
    pub(super) async fn start(plan: &Plan, pulse: &Arc<Pulse>) -> io::Result<Self> {
        // The running program itself, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("millrace-jobs").arg("child");
        command.args(["--worker-id", &plan.worker_id.to_string(), "--index", &plan.index.to_string()]);
        command.args(["--slots", &plan.slots.to_string(), "--supervisor-pid", &process::id().to_string()]);
        command.envs(plan.flags.iter().map(|(name, value)| (name, value)));
        // A group of its own: what a terminal sends to the group is for the supervisor.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the child ended at once"))?;
        let (Some(to_child), Some(from_child)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the child has no pipes"));
        };
        tracing::info!(index = plan.index, pid = pid.as_raw(), slots = plan.slots, "a child is up");
        *pulse.pipes.lock().await = Some(Pipes { to_child, from_child: BufReader::new(from_child) });
        Ok(Self { child, pid, pulse: Arc::clone(pulse) })
    }

    /// Hands orders on until the child has ended; returns how it ended.
    pub(super) async fn run(mut self, order: &mut watch::Receiver<Order>) -> String {
        self.tell(*order.borrow_and_update());
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                Ok(()) = order.changed() => self.tell(*order.borrow_and_update()),
            }
        };
        *self.pulse.pipes.lock().await = None;
        status.map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    fn tell(&self, order: Order) {
        let signal = match order {
            Order::Run => return,
            Order::Quiet => Signal::SIGTSTP,
            Order::Warm => Signal::SIGTERM,
            Order::Cold => Signal::SIGQUIT,
        };
        // The child is not reaped yet, so the id is still its own.
        if let Err(error) = kill(self.pid, signal) {
            tracing::warn!(pid = self.pid.as_raw(), %error, "a child could not be told");
        }
    }
}
