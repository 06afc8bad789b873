//! One child process as its parent sees it: started afresh by exec (not forked), told by signals and over its standard input, which
//! is also its lifeline: when the parent dies, however, that pipe ends, and so does the child.

use super::{Crew, Order, Plan, pulse::Line};
use crate::{
    black_box::BlackBox,
    child::{
        Duty,
        stopping::{COLD_WITHIN, REPLACED, warm_within},
    },
    link::{self, News, Told, Wish},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shared::{
    config::Settings,
    ids::JobId,
    jobs::engine::{Nonce, QueueRow, salvage::Running},
};
use std::{
    collections::{HashMap, HashSet},
    io,
    process::{self, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::BufReader,
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

/// How often a child's black box is looked at for attempts that will not end.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An attempt that is past its limit is stopped in its child, unless it blocks its thread: so long after, it is.
const OVERDUE: Duration = Duration::from_secs(1);
/// What a pipe holds.
const PIPE_BYTES: usize = 64 << 10;
/// What a child that has ended wrote before is there already.
const LAST_WORDS: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct ChildProcess {
    child: Child,
    pid: Pid,
    pipes: Option<(ChildStdin, ChildStdout)>,
    pub(super) line: Arc<Line>,
    told: Option<(watch::Receiver<Wish>, mpsc::Receiver<Told>)>,
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
    /// Whether it ended as it was to, with everything settled.
    pub(super) fn is_in_order(&self) -> bool {
        self.status.as_ref().is_ok_and(|status| status.success()) || self.is_replaced()
    }

    /// Whether it has made room for its successor.
    pub(super) fn is_replaced(&self) -> bool {
        self.status.as_ref().is_ok_and(|status| status.code() == Some(REPLACED.into()))
    }

    pub(super) fn how(&self) -> String {
        self.status.as_ref().map_or_else(ToString::to_string, ToString::to_string)
    }
}

impl ChildProcess {
    pub(super) fn start(crew: &Crew, plan: &Plan, wish: Wish) -> io::Result<Self> {
        let (nonce, black_box) = (Nonce::new(), BlackBox::new()?);
        // The running program itself, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("millrace-jobs").arg("child");
        command.args(["--worker-id", &plan.worker_id.to_string(), "--index", &plan.index.to_string()]);
        command.args(["--slots", &plan.slots.to_string(), "--supervisor-pid", &process::id().to_string()]);
        command.args(["--nonce", &nonce.to_string()]).arg("--black-box").arg(black_box.path());
        command.args(["--max-tasks", &plan.max_tasks.to_string()]);
        command.args(["--connections", &crew.ctx.settings().db_pool_max_of_worker().to_string()]);
        command.args(["--clock-correction-ms", &crew.ctx.clock.correction_ms().to_string()]);
        match plan.duty {
            Duty::Ordinary => {}
            Duty::Quarantine => drop(command.arg("--quarantine")),
            Duty::Maintenance => drop(command.arg("--maintenance")),
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
        tracing::debug!(index = plan.index, pid = pid.as_raw(), "a child is started");
        let (line, wishes, questions) = Line::new(pid.as_raw().unsigned_abs(), wish);
        let (pipes, told) = (Some((to_child, from_child)), Some((wishes, questions)));
        Ok(Self { child, pid, pipes, line, told, nonce, black_box })
    }

    /// Hands orders on until the child has ended; returns how it ended. A child that does not stop in its time is killed.
    /// What the child tells goes to `news`.
    pub(super) async fn run(mut self, world: World, news: mpsc::Sender<(Arc<Line>, News)>) -> Ended {
        let World { mut order, queues, settings, crew } = world;
        let mut kill_at = None;
        let ((to_child, from_child), (wishes, questions)) = self.pipes.take().zip(self.told.take()).expect("it is run once");
        let speaking = speak(to_child, wishes, questions, queues, crew.log_level.clone());
        let line = Arc::clone(&self.line);
        let mut hearing = Box::pin(hear(from_child, line, crew, news));
        let mut speaking = Box::pin(speaking);
        let (mut is_heard, mut is_spoken_to) = (true, true);
        self.tell(*order.borrow_and_update(), &settings, &mut kill_at);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut overdue) = (HashMap::new(), HashSet::new());
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                result = &mut hearing, if is_heard => {
                    is_heard = false;
                    log_broken(self.pid, result);
                }
                result = &mut speaking, if is_spoken_to => {
                    is_spoken_to = false;
                    log_broken(self.pid, result);
                }
                Ok(()) = order.changed() => self.tell(*order.borrow_and_update(), &settings, &mut kill_at),
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
        if is_heard {
            // Its last words may still be in the pipe.
            drop(tokio::time::timeout(LAST_WORDS, hearing).await);
        }
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
            // A signal would stop a child that is not ready for it yet.
            Order::Run | Order::Quiet => return self.line.wish(|wish| wish.is_quiet = order == Order::Quiet),
            Order::Warm => (Signal::SIGTERM, warm_within(settings)),
            Order::Cold => (Signal::SIGQUIT, COLD_WITHIN),
        };
        *kill_at = Some(Instant::now() + within);
        self.signal(signal);
    }

    fn signal(&self, signal: Signal) {
        // The child is not reaped yet, so the id is still its own.
        if let Err(error) = kill(self.pid, signal) {
            tracing::warn!(pid = self.pid.as_raw(), %error, "a child could not be told");
        }
    }
}

/// What a child hears of besides its own line.
#[derive(Debug)]
pub(super) struct World {
    order: watch::Receiver<Order>,
    queues: watch::Receiver<Vec<QueueRow>>,
    settings: Arc<Settings>,
    crew: Arc<Crew>,
}

impl World {
    pub(super) fn new(crew: &Arc<Crew>) -> Self {
        let settings = Arc::clone(&crew.ctx.settings());
        Self { order: crew.order.clone(), queues: crew.queues.clone(), settings, crew: Arc::clone(crew) }
    }
}

/// Tells the child what is wished and asked, and which queues to consume, until it hears no more.
async fn speak(
    mut to_child: ChildStdin,
    mut wishes: watch::Receiver<Wish>,
    mut questions: mpsc::Receiver<Told>,
    mut queues: watch::Receiver<Vec<QueueRow>>,
    mut log_level: watch::Receiver<String>,
) -> io::Result<()> {
    queues.mark_changed();
    wishes.mark_changed();
    loop {
        let told = tokio::select! {
            Ok(()) = queues.changed() => {
                let rows = queues.borrow_and_update();
                Told::Queues(rows.iter().filter(|row| !row.is_remote).map(|row| row.name.to_string()).collect())
            }
            Ok(()) = wishes.changed() => Told::Wish(*wishes.borrow_and_update()),
            Ok(()) = log_level.changed() => Told::LogLevel(log_level.borrow_and_update().clone()),
            Some(question) = questions.recv() => question,
        };
        link::write(&mut to_child, &told).await?;
    }
}

async fn hear(from_child: ChildStdout, line: Arc<Line>, crew: Arc<Crew>, tell: mpsc::Sender<(Arc<Line>, News)>) -> io::Result<()> {
    let mut from_child = BufReader::with_capacity(PIPE_BYTES, from_child);
    while let Some(news) = link::read(&mut from_child).await? {
        if let News::Write { batch, n_bytes } = news {
            let bytes = link::read_bytes(&mut from_child, n_bytes).await?;
            let (crew, line) = (Arc::clone(&crew), Arc::clone(&line));
            tokio::spawn(async move {
                let unwritten = crew.scribes.write(&crew.ctx, &bytes).await;
                line.answer(Told::Written { batch, unwritten }).await;
            });
            continue;
        }
        line.hear(&news);
        drop(tell.send((Arc::clone(&line), news)).await);
    }
    Ok(())
}

fn log_broken(pid: Pid, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(pid = pid.as_raw(), %error, "the pipe to a child broke");
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
