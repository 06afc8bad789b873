//! One place among a worker's children: who works there, who is to follow, and who is on the way out.
//!
//! A child that has served its time is replaced in this order: its successor is started and ready; the old one is told so, does what
//! is left to it, and gives back slot by slot; each slot goes to the successor at once. So nothing waits for a process to start, and
//! all of them together never run more than the place's slots.

use super::{
    Crew, Order, Plan, aftermath,
    child_process::{ChildProcess, Ended, World},
    pulse::{Line, Pulse},
};
use crate::link::{Ageing, Farewell, News, Wish};
use shared::{
    telemetry::metrics::{WORKER_CHILDREN_REPLACED, WORKER_CHILDREN_RESTARTED},
    vital::vital,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Wait before a child that died is started again: doubles from the first to the last while children die young.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_LAST: Duration = Duration::from_secs(10);
/// A child that lived so long did not die young.
const GROWN_UP: Duration = Duration::from_secs(10);
/// News of a place's children that wait to be taken in.
const NEWS_MAX: usize = 64;

/// One process of the place.
struct Member {
    line: Arc<Line>,
    /// Slots that it may be using.
    n_slots: usize,
    started: Instant,
    is_ready: bool,
    ageing: Option<Ageing>,
    /// One of the starts that are under way at once in the worker, until it is ready.
    start: Option<OwnedSemaphorePermit>,
}

type Gone = (Arc<Line>, Ended);
type Told = (Arc<Line>, News);

/// A place while the worker runs.
pub(super) struct Place {
    crew: Arc<Crew>,
    plan: Plan,
    pulse: Arc<Pulse>,
    current: Option<Member>,
    successor: Option<Member>,
    leaving: Vec<Member>,
    processes: JoinSet<Gone>,
    news: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
    pause: Duration,
    /// Nothing is started before this.
    start_at: Instant,
}

impl Place {
    pub(super) fn new(crew: &Arc<Crew>, plan: Plan, pulse: &Arc<Pulse>) -> Self {
        Self {
            crew: Arc::clone(crew),
            plan,
            pulse: Arc::clone(pulse),
            current: None,
            successor: None,
            leaving: Vec::new(),
            processes: JoinSet::new(),
            news: mpsc::channel(NEWS_MAX),
            pause: RESTART_FIRST,
            start_at: Instant::now(),
        }
    }

    /// Sees to it that somebody works here, until the worker stops and all have ended.
    pub(super) async fn keep(mut self) {
        let mut order = self.crew.order.clone();
        let starts = Arc::clone(&self.crew.starts);
        loop {
            let is_stopping = *order.borrow() >= Order::Warm;
            if is_stopping && self.processes.is_empty() {
                while let Ok((line, news)) = self.news.1.try_recv() {
                    self.take_in(&line, news);
                }
                return;
            }
            let is_vacant = !is_stopping && self.current.is_none();
            let wants_successor =
                !is_stopping && self.successor.is_none() && self.current.as_ref().is_some_and(|current| current.ageing.is_some());
            tokio::select! {
                Some((line, news)) = self.news.1.recv() => self.take_in(&line, news),
                Some(Ok((line, ended))) = self.processes.join_next(), if !self.processes.is_empty() => self.bury(&line, ended),
                () = sleep_until(self.start_at), if is_vacant => self.current = self.start(None),
                permit = starting(&starts, self.start_at), if wants_successor => self.successor = self.start(permit),
                _ = order.wait_for(|order| *order >= Order::Warm), if !is_stopping => {}
            }
            self.share_out();
        }
    }

    fn start(&mut self, permit: Option<OwnedSemaphorePermit>) -> Option<Member> {
        let child = match ChildProcess::start(&self.crew, &self.plan, Wish::default()) {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(index = self.plan.index, %error, "a child could not be started");
                self.put_off();
                return None;
            }
        };
        // What a first child may run is less, so that not all of a worker's children are replaced at once, now and ever after.
        self.plan.max_tasks = self.crew.ctx.settings().worker_max_tasks_per_child;
        let line = Arc::clone(&child.line);
        self.pulse.enter(&line);
        let (world, news, of) = (World::new(&self.crew), self.news.0.clone(), Arc::clone(&line));
        self.processes.spawn(async move { (of, vital("a child", child.run(world, news)).await) });
        Some(Member { line, n_slots: 0, started: Instant::now(), is_ready: false, ageing: None, start: permit })
    }

    fn put_off(&mut self) {
        self.pause = (self.pause * 2).min(RESTART_LAST);
        self.start_at = Instant::now() + self.pause;
    }

    fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        self.current.iter_mut().chain(&mut self.successor).chain(&mut self.leaving)
    }

    fn take_in(&mut self, line: &Arc<Line>, news: News) {
        match news {
            News::UnknownQueue => return self.crew.unknown_queue.notify_one(),
            News::Farewell(Farewell { n_done, n_failed, .. }) => return self.crew.count_past(n_done, n_failed),
            News::Ready | News::Ageing(_) | News::Keeps(_) | News::Metrics(_) | News::Spans(_) | News::Write { .. } => {}
        }
        let index = self.plan.index;
        let Some(member) = self.members().find(|member| Arc::ptr_eq(&member.line, line)) else { return };
        match news {
            News::Ready => {
                member.is_ready = true;
                drop(member.start.take());
                tracing::debug!(index, pid = line.pid, "a child is ready");
            }
            News::Ageing(ageing) => member.ageing = Some(ageing),
            News::Keeps(n_slots) => member.n_slots = member.n_slots.min(n_slots),
            News::Metrics(_) | News::Spans(_) | News::UnknownQueue | News::Write { .. } | News::Farewell(_) => {}
        }
        self.hand_over();
    }

    /// Lets the old one go once the new one is ready.
    fn hand_over(&mut self) {
        let is_ready = self.successor.as_ref().is_some_and(|successor| successor.is_ready);
        let Some(ageing) = self.current.as_ref().and_then(|current| current.ageing).filter(|_| is_ready) else { return };
        let Some(current) = std::mem::replace(&mut self.current, self.successor.take()) else { return };
        let reason = match ageing {
            Ageing::Tasks => "tasks",
            Ageing::Memory => "memory",
        };
        metrics::counter!(WORKER_CHILDREN_REPLACED, "reason" => reason).increment(1);
        tracing::debug!(index = self.plan.index, pid = current.line.pid, reason, "a child is replaced");
        if ageing == Ageing::Memory && current.started.elapsed() < GROWN_UP {
            tracing::warn!(pid = current.line.pid, "a child outgrew WORKER_MAX_MEMORY_PER_CHILD_KB within seconds");
            self.put_off();
        }
        current.line.wish(|wish| wish.is_succeeded = true);
        self.leaving.push(current);
    }

    /// Gives the one who works here the slots that nobody else may be using.
    fn share_out(&mut self) {
        let n_taken: usize = self.leaving.iter().map(|member| member.n_slots).sum();
        let Some(current) = &mut self.current else { return };
        let n_slots = self.plan.slots.saturating_sub(n_taken);
        if n_slots > current.n_slots {
            current.n_slots = n_slots;
            current.line.wish(|wish| wish.slots = n_slots);
        }
    }

    /// Takes a process that has ended off the place, and sees to what it left.
    fn bury(&mut self, line: &Arc<Line>, ended: Ended) {
        self.pulse.leave(line);
        let is = |member: &mut Member| Arc::ptr_eq(&member.line, line);
        let worked = self.current.take_if(is);
        let followed = self.successor.take_if(is);
        self.leaving.retain_mut(|member| !is(member));
        let is_told = *self.crew.order.borrow() >= Order::Warm;
        if !is_told && !ended.is_in_order() {
            tracing::error!(
                index = self.plan.index,
                pid = ended.pid,
                status = ended.how(),
                "a child ended by itself; another takes its place"
            );
            metrics::counter!(WORKER_CHILDREN_RESTARTED, "reason" => if ended.overdue.is_empty() { "ended" } else { "blocked" })
                .increment(1);
        }
        if let Some(member) = worked.or(followed).filter(|_| !is_told) {
            if member.started.elapsed() >= GROWN_UP {
                self.pause = RESTART_FIRST;
                self.start_at = Instant::now() + self.pause;
            } else {
                self.put_off();
            }
        }
        aftermath::begin(&self.crew, &self.plan, ended);
        if self.current.is_none() {
            self.current = self.successor.take();
        }
    }
}

/// Waits for the turn to start a successor; those that are missing entirely do not wait.
async fn starting(starts: &Arc<tokio::sync::Semaphore>, start_at: Instant) -> Option<OwnedSemaphorePermit> {
    sleep_until(start_at).await;
    Arc::clone(starts).acquire_owned().await.ok()
}
