//! One child process as its parent sees it: started afresh by exec (not forked), told by signals, asked over its pipes.
//! The pipe on its standard input is also its lifeline: when the parent dies, however, it ends, and so does the child.

use super::{Order, Plan};
use crate::{
    black_box::BlackBox,
    child::{
        Duty,
        stopping::{COLD_WITHIN, warm_within},
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shared::{
    config::Settings,
    ids::JobId,
    jobs::engine::{Nonce, salvage::Running},
};
use std::{
    collections::{HashMap, HashSet},
    io,
    process::{self, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest answer that is believed.
const ANSWER_MAX: usize = 16 << 20;
/// How often a child's black box is looked at for attempts that will not end.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An attempt that is past its limit is stopped in its child, unless it blocks its thread: so long after, it is.
const OVERDUE: Duration = Duration::from_secs(1);

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
    nonce: Nonce,
    black_box: BlackBox,
}

/// How a child ended, and what ran in it then.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) pid: u32,
    pub(super) nonce: Nonce,
    pub(super) status: io::Result<ExitStatus>,
    pub(super) running: Vec<Running>,
    /// Those of `running` that it was killed for.
    pub(super) overdue: HashSet<JobId>,
}

impl Ended {
    pub(super) fn how(&self) -> String {
        self.status.as_ref().map_or_else(ToString::to_string, ToString::to_string)
    }
}

impl ChildProcess {
    pub(super) async fn start(plan: &Plan, pulse: &Arc<Pulse>) -> io::Result<Self> {
        let (nonce, black_box) = (Nonce::new(), BlackBox::new()?);
        // The running program itself, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("millrace-jobs").arg("child");
        command.args(["--worker-id", &plan.worker_id.to_string(), "--index", &plan.index.to_string()]);
        command.args(["--slots", &plan.slots.to_string(), "--supervisor-pid", &process::id().to_string()]);
        command.args(["--nonce", &nonce.to_string()]).arg("--black-box").arg(black_box.path());
        if plan.duty == Duty::Quarantine {
            command.arg("--quarantine");
        }
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
        Ok(Self { child, pid, pulse: Arc::clone(pulse), nonce, black_box })
    }

    /// Hands orders on until the child has ended; returns how it ended. A child that does not stop in its time is killed.
    pub(super) async fn run(mut self, order: &mut watch::Receiver<Order>, settings: &Settings) -> Ended {
        let mut kill_at = None;
        self.tell(*order.borrow_and_update(), settings, &mut kill_at);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut overdue) = (HashMap::new(), HashSet::new());
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                Ok(()) = order.changed() => self.tell(*order.borrow_and_update(), settings, &mut kill_at),
                () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                    kill_at = None;
                    tracing::error!(pid = self.pid.as_raw(), "a child is killed: it did not stop in its time");
                    self.signal(Signal::SIGKILL);
                }
                _ = looks.tick(), if overdue.is_empty() => {
                    overdue = look(&self.running(), &mut seen, Instant::now());
                    if !overdue.is_empty() {
                        tracing::error!(pid = self.pid.as_raw(), job_ids = ?overdue, "a child is killed: jobs past their limit block its threads");
                        self.signal(Signal::SIGKILL);
                    }
                }
            }
        };
        *self.pulse.pipes.lock().await = None;
        Ended { pid: self.pid.as_raw().unsigned_abs(), nonce: self.nonce, status, running: self.running(), overdue }
    }

    fn running(&self) -> Vec<Running> {
        self.black_box.running().unwrap_or_else(|error| {
            tracing::error!(pid = self.pid.as_raw(), %error, "a child's black box cannot be read");
            Vec::new()
        })
    }

    /// Sends the order on, and notes until when it must be carried out.
    fn tell(&self, order: Order, settings: &Settings, kill_at: &mut Option<Instant>) {
        let (signal, within) = match order {
            Order::Run => return,
            Order::Quiet => (Signal::SIGTSTP, None),
            Order::Warm => (Signal::SIGTERM, Some(warm_within(settings))),
            Order::Cold => (Signal::SIGQUIT, Some(COLD_WITHIN)),
        };
        *kill_at = within.map(|within| Instant::now() + within);
        self.signal(signal);
    }

    fn signal(&self, signal: Signal) {
        // The child is not reaped yet, so the id is still its own.
        if let Err(error) = kill(self.pid, signal) {
            tracing::warn!(pid = self.pid.as_raw(), %error, "a child could not be told");
        }
    }
}

/// Which of `running` are past their limit. Measured from when each was first `seen`, on a clock that does not jump.
fn look(running: &[Running], seen: &mut HashMap<(JobId, i32), Instant>, now: Instant) -> HashSet<JobId> {
    let key = |running: &Running| (running.job_id, running.attempt);
    let present: HashSet<_> = running.iter().map(key).collect();
    seen.retain(|key, _| present.contains(key));
    let mut overdue = HashSet::new();
    for attempt in running {
        let since = *seen.entry(key(attempt)).or_insert(now);
        if attempt.limit.is_some_and(|limit| now.duration_since(since) > limit + OVERDUE) {
            overdue.insert(attempt.job_id);
        }
    }
    overdue
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::jobs::QueueName;
    use time::OffsetDateTime;

    #[test]
    fn an_attempt_is_overdue_once_it_was_seen_for_longer_than_its_limit() {
        let attempt = |limit| Running {
            queue: QueueName::default(),
            job_id: JobId::new(),
            attempt: 1,
            // Far off: the wall clock does not matter.
            started_at: OffsetDateTime::UNIX_EPOCH,
            limit,
        };
        let running = [attempt(Some(Duration::from_secs(5))), attempt(None)];
        let (mut seen, start) = (HashMap::new(), Instant::now());
        assert!(look(&running, &mut seen, start).is_empty());
        assert!(look(&running, &mut seen, start + Duration::from_secs(6)).is_empty());
        assert_eq!(look(&running, &mut seen, start + Duration::from_secs(7)), HashSet::from([running[0].job_id]));
        look(&[], &mut seen, start);
        assert!(seen.is_empty());
    }
}
