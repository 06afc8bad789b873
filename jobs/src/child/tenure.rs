//! How long a child serves. It takes the slots that it is given; asks for a successor when it has run about as many jobs as it may,
//! or grown too large; and once that one is ready, does what is left to it and goes, giving back slot by slot.

use super::{Assignment, Duty, memory::Memory, voice::Voice};
use crate::{
    link::{Ageing, News, Wish},
    slots::Slots,
};
use shared::{
    config::Settings,
    jobs::engine::{allowance::Allowance, held::Held, leaser::Mode},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

/// A successor is asked for so long before it is needed: starting takes tens of milliseconds, much more on a busy machine.
const LEAD: Duration = Duration::from_secs(2);
/// And with so small a part of the tasks left, whenever those will come.
const LAST_PART: u64 = 16;
/// Memory is looked at after a task, but not more often than this, and in any case every [`LOOK_EVERY`].
const LOOK_PAUSE: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_secs(5);
const SLOTS_BACK: Duration = Duration::from_millis(100);
/// So long may what a leaving child has leased wait behind its long jobs, while its successor may have a free slot.
const WAITS_MAX: Duration = Duration::from_millis(500);

/// What a child may use up before it is replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) tasks: Option<u64>,
    pub(super) memory_kb: Option<u64>,
    pub(super) prefetch_multiplier: usize,
}

impl Limits {
    pub(super) fn new(settings: &Settings, assignment: &Assignment) -> Self {
        // A child for suspects ends by itself as soon as there are none.
        let limit = |n: u64| (n > 0 && assignment.duty == Duty::Ordinary).then_some(n);
        let memory_kb = limit(settings.worker_max_memory_per_child_kb);
        Self { tasks: limit(assignment.max_tasks), memory_kb, prefetch_multiplier: assignment.prefetch_multiplier(settings) }
    }
}

#[derive(Debug)]
pub(super) struct Tenure {
    pub(super) limits: Limits,
    pub(super) wish: watch::Receiver<Wish>,
    pub(super) slots: Arc<Slots>,
    pub(super) allowance: Arc<Allowance>,
    pub(super) held: Arc<Held>,
    pub(super) mode: watch::Sender<Mode>,
    pub(super) voice: Voice,
    /// Set when it goes.
    pub(super) is_going: Arc<AtomicBool>,
}

impl Tenure {
    /// Returns when the child has nothing left to do: what ran has ended, and settling it is all that is to come.
    pub(super) async fn serve(mut self) {
        self.voice.tell(&News::Ready).await;
        let ageing = self.until_succeeded().await;
        tracing::debug!(?ageing, "a successor is ready");
        self.go(ageing).await;
    }

    async fn until_succeeded(&mut self) -> Ageing {
        let (mut pace, mut asked) = (None, None);
        let mut memory = Look::new(self.limits.memory_kb);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(ageing) = self.ageing(asked, &mut pace, &mut memory) {
                asked = Some(ageing);
                self.voice.tell(&News::Ageing(ageing)).await;
            }
            tokio::select! {
                Ok(()) = self.wish.changed() => {
                    let wish = *self.wish.borrow_and_update();
                    if wish.is_succeeded {
                        return asked.unwrap_or(Ageing::Tasks);
                    }
                    self.take_slots(wish.slots);
                    pace.get_or_insert_with(|| Pace { began: Instant::now(), check_at: 0 });
                }
                () = self.held.rung() => memory.is_due = memory.is_armed,
                () = sleep_until(memory.arm_at), if memory.memory.is_some() && !memory.is_armed => memory.is_armed = true,
                _ = looks.tick(), if memory.memory.is_some() => memory.is_due = true,
            }
        }
    }

    fn take_slots(&self, n_slots: usize) {
        self.slots.grow_to(n_slots);
        self.allowance.set_prefetch(self.slots.n_owned() * self.limits.prefetch_multiplier);
    }

    /// Whether it is time to be replaced for more than was `asked`; sets what rings for the next look.
    fn ageing(&self, asked: Option<Ageing>, pace: &mut Option<Pace>, memory: &mut Look) -> Option<Ageing> {
        if asked != Some(Ageing::Memory) && memory.is_over() {
            return Some(Ageing::Memory);
        }
        if let (Some(max), Some(pace), None) = (self.limits.tasks, pace.as_mut(), asked)
            && pace.is_near(self.held.tally().n_finished, max)
        {
            return Some(Ageing::Tasks);
        }
        let tasks_from = pace.as_ref().filter(|_| asked.is_none()).map_or(u64::MAX, |pace| pace.check_at);
        self.held.ring_from(if memory.is_armed { 0 } else { tasks_from });
        None
    }

    /// Never in the middle of a job: with tasks left to it, the child takes and runs those; then, or where there are none, it hands
    /// back what has not started. So it does where its slots are taken by long jobs: what waits behind them starts elsewhere.
    async fn go(&mut self, ageing: Ageing) {
        let mut max = match ageing {
            Ageing::Tasks => self.limits.tasks.unwrap_or(0),
            Ageing::Memory => 0,
        };
        self.is_going.store(true, Ordering::Relaxed);
        self.allowance.limit_finished(max);
        self.held.ring_from(0);
        let mut rung_at = Instant::now();
        loop {
            let tally = self.held.tally();
            if tally.n_reserved > 0 && rung_at.elapsed() >= WAITS_MAX {
                max = 0;
                self.allowance.limit_finished(max);
            }
            let n_left = self.allowance.left(tally);
            let has_work = n_left > 0 || (tally.n_reserved > 0 && tally.n_finished + tally.n_unfinished() <= max);
            if !has_work && *self.mode.borrow() < Mode::Drain {
                self.mode.send_if_modified(|mode| std::mem::replace(mode, Mode::Drain.max(*mode)) < Mode::Drain);
            }
            let n_needed = tally.n_running + if has_work { tally.n_reserved + n_left } else { 0 };
            if self.slots.shrink_to(usize::try_from(n_needed).unwrap_or(usize::MAX)) {
                let n_owned = self.slots.n_owned();
                self.allowance.set_prefetch(n_owned * self.limits.prefetch_multiplier);
                self.voice.tell(&News::Keeps(n_owned)).await;
            }
            if self.slots.n_owned() == 0 {
                return;
            }
            // One that was handed back just as it had a slot rings no more.
            if timeout(SLOTS_BACK, self.held.rung()).await.is_ok() {
                rung_at = Instant::now();
            }
        }
    }
}

/// How fast tasks go by, and when to look next.
#[derive(Debug)]
struct Pace {
    began: Instant,
    check_at: u64,
}

impl Pace {
    fn is_near(&mut self, n_finished: u64, max: u64) -> bool {
        let n_left = max.saturating_sub(n_finished);
        if n_finished < self.check_at && n_left > max / LAST_PART {
            return false;
        }
        let n_in_lead = n_finished as f64 / self.began.elapsed().as_secs_f64().max(1e-6) * LEAD.as_secs_f64();
        // The first look at the pace after a small part, then each time when half of what is left is done.
        let n_until = if n_finished == 0 { max / LAST_PART } else { n_left / 2 };
        self.check_at = n_finished + n_until.max(1);
        n_left <= (max / LAST_PART).max(1) || n_left as f64 <= n_in_lead
    }
}

/// When memory is looked at: after a task, but for a pause after each look.
#[derive(Debug)]
struct Look {
    limit_kb: u64,
    memory: Option<Memory>,
    is_due: bool,
    /// Whether the next task that ends is followed by a look.
    is_armed: bool,
    arm_at: Instant,
}

impl Look {
    fn new(limit_kb: Option<u64>) -> Self {
        let memory = limit_kb.and_then(|_| Memory::open());
        Self { limit_kb: limit_kb.unwrap_or(u64::MAX), memory, is_due: false, is_armed: false, arm_at: Instant::now() }
    }

    fn is_over(&mut self) -> bool {
        let Some(memory) = self.memory.as_ref().filter(|_| std::mem::take(&mut self.is_due)) else { return false };
        (self.is_armed, self.arm_at) = (false, Instant::now() + LOOK_PAUSE);
        memory.rss_kb().is_some_and(|rss_kb| rss_kb > self.limit_kb)
    }
}
