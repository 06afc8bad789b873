//! The task that owns a worker's race: it leases, settles and hands back, one script call per queue and beat.
//!
//! A beat finishes what PostgreSQL has taken, marks what has ended as settling, notes starts, and leases up to the prefetch.
//! Marked outcomes go to the [`Writers`], so that no beat waits for a commit. Nothing lingers: a beat carries what has
//! gathered while the one before was under way.

mod arrivals;
mod ends;
mod reclaim;

use super::{
    IDS_MAX, Outcome,
    allowance::Allowance,
    doorbell::Bell,
    held::{Held, LeasedJob},
    lane::Lanes,
    load::{Draft, Loaded},
    meters::Meters,
    outcome::Conclusion,
    relay::Relay,
    scripts::{self, Finish, Holder, LeaseFrom, QueueKeys, Step, Stepped},
    token::Token,
    writers::Writers,
};
use crate::redis::Connection;
use crate::{Context, Result, jobs::QueueName, telemetry::metrics, vital::vital};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// After a Redis that restarted was noticed, the leader makes it known to the queues within a sweep or two.
const KNOWN_SOON: Duration = Duration::from_millis(50);
/// Looks for leases whose answer got lost, one per poll, after Redis was away: the last calls may be late to run.
const RECLAIMS: usize = 2;

/// What a worker is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Lease,
    /// Leases nothing; what is leased runs.
    Quiet,
    /// Also hands back what has not started.
    Drain,
    /// Also ends once everything is settled.
    Flush,
}

/// How a delivery came back from the worker's stack.
#[derive(Debug)]
pub enum End {
    Outcome(Outcome),
    /// It was handed back or lost before it started.
    NotStarted,
    /// It was made to stop, and left no outcome.
    Abandoned,
}

#[derive(Debug)]
pub struct Ended {
    pub job: Arc<LeasedJob>,
    pub end: End,
}

/// What a worker wants of its leasing task.
#[derive(Debug, Clone)]
pub struct Wishes {
    pub holder: Holder,
    pub from: LeaseFrom,
    /// What [`Allowance`] may come to, at most: outcomes that wait to be marked count, those that are marked do not.
    pub prefetch: usize,
    pub settle_batch: usize,
    /// Connections that outcomes are written over, at most.
    pub writers: usize,
    pub poll: Duration,
}

/// The ends of the channels that the leasing task is connected by.
#[derive(Debug)]
pub struct Wiring {
    /// Dropped when draining begins: its end tells the worker that nothing more comes.
    pub jobs: Option<mpsc::Sender<Arc<LeasedJob>>>,
    pub ended: mpsc::Receiver<Ended>,
    pub queues: watch::Receiver<Vec<QueueName>>,
    pub mode: watch::Receiver<Mode>,
    pub bell: Arc<Bell>,
    /// Told when a queue rings that is not consumed yet.
    pub unknown_queue: Arc<Notify>,
    pub held: Arc<Held>,
    pub allowance: Arc<Allowance>,
    /// Who writes successes; `None`: connections of its own.
    pub relay: Option<Arc<dyn Relay>>,
    /// Ends all waiting for servers that are away.
    pub give_up: CancellationToken,
}

pub struct Leaser {
    ctx: Context,
    wishes: Wishes,
    wiring: Wiring,
    connection: Connection,
    lanes: Lanes,
    /// Concluded, and not yet marked.
    concluded: VecDeque<Conclusion>,
    writers: Writers,
    loaded: (mpsc::Sender<Option<Loaded>>, mpsc::Receiver<Option<Loaded>>),
    /// No beat before this: the last one failed.
    resume_at: Option<Instant>,
    /// Queues are looked at again then: this Redis did not know one yet, or the rate of one lets more go.
    rouse_at: Option<Instant>,
    /// Looks for leases whose answer got lost that are still to be made.
    n_reclaims: usize,
    has_handed_back: bool,
    is_redis_away: bool,
    meters: Meters,
}

impl std::fmt::Debug for Leaser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaser").field("wishes", &self.wishes).finish_non_exhaustive()
    }
}

impl Leaser {
    pub fn new(ctx: Context, wishes: Wishes, wiring: Wiring) -> Result<Self> {
        let connection = ctx.redis.own_connection(&ctx.settings())?;
        let loads_max = wishes.prefetch.max(1);
        let writers = Writers::new(ctx.clone(), wishes.writers, wishes.settle_batch, wiring.relay.clone(), wiring.give_up.clone());
        Ok(Self {
            ctx,
            wishes,
            wiring,
            connection,
            lanes: Lanes::default(),
            concluded: VecDeque::new(),
            writers,
            loaded: mpsc::channel(loads_max),
            resume_at: None,
            rouse_at: None,
            n_reclaims: 0,
            has_handed_back: false,
            is_redis_away: false,
            meters: Meters::default(),
        })
    }

    /// Runs until [`Mode::Flush`] is asked for and everything is settled, or until the wait for it is given up. A process whose leasing task
    /// panics ends with it: it would go on extending leases that nobody settles.
    pub async fn run(self) {
        vital("leasing", self.beats()).await;
    }

    async fn beats(mut self) {
        let mut polls = interval(self.wishes.poll);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.consume();
        // Opened before it is needed: a process that is to take over from another does so without a pause. While Redis is away, later.
        drop(redis::cmd("PING").exec_async(&mut self.connection).await);
        loop {
            // Before gathering: whatever ended before this was asked for is there then, and no end comes after it.
            let is_flushing = *self.wiring.mode.borrow() == Mode::Flush;
            self.gather();
            if self.is_due() {
                self.beat().await;
                continue;
            }
            if is_flushing && self.is_settled() {
                if self.n_reclaims == 0 && !self.is_redis_away {
                    return;
                }
                // What a beat leased whose answer got lost is not left to expire. While Redis is away, it is.
                (self.n_reclaims, self.is_redis_away) = (1, false);
                self.reclaim().await;
                continue;
            }
            let resume_at = self.resume_at.unwrap_or_else(Instant::now);
            let rouse_at = self.rouse_at.unwrap_or_else(Instant::now);
            tokio::select! {
                () = self.wiring.give_up.cancelled() => return,
                Some(ended) = self.wiring.ended.recv() => self.conclude(ended),
                finishes = self.writers.written() => self.take_written(finishes),
                Some(loaded) = self.loaded.1.recv() => self.take_loaded(loaded),
                Ok(()) = self.wiring.queues.changed() => self.consume(),
                Ok(()) = self.wiring.mode.changed() => {}
                () = self.wiring.bell.rung() => self.hear(),
                () = self.wiring.held.attempt_started.notified() => {}
                () = self.wiring.allowance.has_changed.notified() => {}
                _ = polls.tick() => {
                    self.lanes.rouse_all();
                    self.reclaim().await;
                    self.tell_pickups();
                }
                () = sleep_until(rouse_at.into()), if self.rouse_at.is_some() => {
                    self.rouse_at = None;
                    self.lanes.rouse_all();
                }
                () = sleep_until(resume_at.into()), if self.resume_at.is_some() => self.resume_at = None,
            }
        }
    }

    /// Takes in whatever has arrived, without waiting.
    fn gather(&mut self) {
        while let Ok(ended) = self.wiring.ended.try_recv() {
            self.conclude(ended);
        }
        while let Some(finishes) = self.writers.take_written() {
            self.take_written(finishes);
        }
        for started in self.wiring.held.take_started() {
            self.meters.started(&started.keys.queue, &started.kind, started.pickup);
            if started.is_running {
                self.lanes.by_keys(&started.keys).started.push(started.token);
            }
        }
        if *self.wiring.mode.borrow() >= Mode::Drain && !std::mem::replace(&mut self.has_handed_back, true) {
            self.hand_back();
        }
    }

    fn want(&self) -> usize {
        if *self.wiring.mode.borrow() != Mode::Lease || !self.lanes.any_hungry() {
            return 0;
        }
        if self.is_redis_away {
            // A beat whose answer gets lost shall not lease again and again: one job tells whether Redis is back.
            return self.wiring.allowance.room(&self.wiring.held).min(1);
        }
        self.wiring.allowance.room(&self.wiring.held)
    }

    fn may_mark(&self) -> bool {
        !self.concluded.is_empty() && self.writers.room() > 0
    }

    fn is_due(&self) -> bool {
        self.resume_at.is_none()
            && (self.may_mark()
                || self.lanes.all.iter().any(|lane| !lane.finishes.is_empty() || !lane.started.is_empty())
                || self.want() > 0)
    }

    fn is_settled(&self) -> bool {
        let idle = self.lanes.all.iter().all(|lane| lane.finishes.is_empty());
        idle && self.concluded.is_empty() && self.writers.is_idle()
    }

    fn consume(&mut self) {
        let queues = self.wiring.queues.borrow_and_update().clone();
        self.lanes.consume(&queues, |queue| QueueKeys::new(&self.ctx.keys, queue));
    }

    fn hear(&mut self) {
        if self.wiring.bell.take_missed() {
            self.lanes.rouse_all();
        }
        for queue in self.wiring.bell.take() {
            match self.lanes.get_mut(&queue) {
                Some(lane) => lane.may_have_more = true,
                None => self.wiring.unknown_queue.notify_one(),
            }
        }
    }

    async fn beat(&mut self) {
        self.mark();
        let want = self.want();
        let shares = self.lanes.deal(want);
        let mut steps = Vec::new();
        for (lane, share) in self.lanes.all.iter_mut().zip(shares) {
            let step = lane.step(share, self.wishes.from);
            if !step.is_idle() {
                steps.push((Arc::clone(&lane.keys), step));
            }
        }
        // One connection: the calls of all queues leave together and their answers come back together.
        let calls = steps.iter().map(|(keys, step)| {
            let mut connection = self.connection.clone();
            let holder = &self.wishes.holder;
            async move { scripts::step(&mut connection, keys, holder, step).await }
        });
        let answers = futures_util::future::join_all(calls).await;
        let mut marked = Vec::new();
        for ((keys, step), answer) in steps.into_iter().zip(answers) {
            match answer {
                Ok(stepped) => self.take_stepped(&keys, &step, stepped, &mut marked),
                Err(error) => self.put_back(&keys, step, &error),
            }
        }
        self.writers.write(marked);
    }

    /// Moves the next outcomes to their lanes, to be marked in this beat.
    fn mark(&mut self) {
        let n = self.concluded.len().min(self.writers.room()).min(IDS_MAX);
        for conclusion in self.concluded.drain(..n) {
            match self.wiring.held.get(conclusion.delivery.token) {
                Some(held) => self.lanes.by_keys(&held.keys).marked.push(conclusion),
                // Lost since it ended: refused before it is asked.
                None => note_lost(conclusion.delivery.token),
            }
        }
    }

    fn take_stepped(&mut self, keys: &Arc<QueueKeys>, step: &Step, stepped: Stepped, settling: &mut Vec<Conclusion>) {
        if std::mem::take(&mut self.is_redis_away) {
            tracing::info!("Redis answers again");
            self.n_reclaims = RECLAIMS;
            self.lanes.rouse_all();
        }
        let lane = self.lanes.by_keys(keys);
        let (refused, marked) = lane.take_marked(&stepped);
        if step.want > 0 {
            lane.may_have_more = stepped.more;
        }
        if let Some(after) = if stepped.known { stepped.again_after } else { Some(KNOWN_SOON) } {
            let rouse_at = Instant::now() + after;
            self.rouse_at = Some(self.rouse_at.map_or(rouse_at, |at| at.min(rouse_at)));
        }
        self.wiring.held.settling(marked.iter().map(|conclusion| conclusion.delivery.token));
        settling.extend(marked);
        for conclusion in refused {
            self.wiring.held.remove(conclusion.delivery.token);
            note_lost(conclusion.delivery.token);
        }
        for job_id in stepped.cancelled {
            let (ctx, queue) = (self.ctx.clone(), keys.queue.clone());
            tokio::spawn(async move {
                if let Err(error) = super::cancel(&ctx, &queue, job_id).await {
                    tracing::warn!(%job_id, %error, "a requeued job could not be cancelled; the reconciler tries again");
                }
            });
        }
        let mut incomplete = Vec::new();
        for leased in stepped.leased {
            match Draft::new(Arc::clone(keys), &leased, self.wishes.holder.nonce) {
                Some(draft) if draft.is_complete() => self.deliver(draft),
                Some(draft) => incomplete.push(draft),
                None => tracing::error!(job_id = %leased.id, "a copy is unreadable; it comes back when its lease expires"),
            }
        }
        self.load(incomplete);
    }

    /// Redis did not answer: everything is told again, since a script that ran all the same refuses or repeats it harmlessly.
    fn put_back(&mut self, keys: &QueueKeys, step: Step, error: &crate::Error) {
        if !std::mem::replace(&mut self.is_redis_away, true) {
            tracing::warn!(%error, queue = %keys.queue, "a beat failed; it is tried again until it succeeds");
        }
        let lane = self.lanes.by_keys(keys);
        lane.undo(step);
        for conclusion in std::mem::take(&mut lane.marked).into_iter().rev() {
            self.concluded.push_front(conclusion);
        }
        self.resume_at = Some(Instant::now() + Duration::from_millis(100));
    }

    fn take_written(&mut self, finishes: Vec<Finish>) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge of seconds needs no more than a double holds")]
        self.meters.processed_at(self.ctx.clock.now().unix_timestamp() as f64);
        for finish in finishes {
            // From here on the heartbeat leaves it alone, so that a finished lease is never taken for a lost one.
            if let Some(held) = self.wiring.held.remove(finish.token) {
                self.lanes.by_keys(&held.keys).finishes.push_back(finish);
            }
        }
    }
}

fn note_lost(token: Token) {
    ::metrics::counter!(metrics::JOB_LEASES_LOST, "at" => "mark").increment(1);
    tracing::warn!(job_id = %token.job_id, attempt = token.attempt, "an outcome was dropped: its lease had been lost");
}
