//! What becomes of a delivery that ended in the worker, or never started there.

use super::{
    super::{
        Outcome,
        held::{Delivered, LeasedJob, Phase, StopReason},
        outcome::{Delivery, RETURNS_MAX, conclude},
        scripts::{Action, Finish},
        token::Token,
    },
    End, Ended, Leaser,
};

impl Leaser {
    /// A delivery has ended in the worker.
    pub(super) fn conclude(&mut self, ended: Ended) {
        let job = &ended.job;
        let outcome = match ended.end {
            End::Outcome(outcome) => outcome,
            End::NotStarted => return,
            End::Abandoned => match self.abandoned(job) {
                Some(outcome) => outcome,
                None => return,
            },
        };
        // Not held any more: its lease was lost or handed back, and whatever it did does not count.
        let Some(held) = self.wiring.held.end(job.token) else { return };
        let now = self.ctx.clock.now();
        let ran = held.started_at().map(|started_at| (now - started_at).try_into().unwrap_or_default());
        self.wiring.held.count(matches!(outcome, Outcome::Done(_)));
        self.meters.finished(&held.keys.queue, &held.kind, outcome.name(), ran);
        let delivery = Delivery {
            token: job.token,
            standing: held.standing,
            retry: job.retry,
            worker_id: self.wishes.holder.worker_id.clone(),
            started_at: held.started_at(),
            record: job.record.clone(),
        };
        self.concluded.push_back(conclude(delivery, outcome, now, rand::random()));
    }

    /// An attempt that was made to stop: its outcome, if it has one.
    fn abandoned(&mut self, job: &LeasedJob) -> Option<Outcome> {
        match job.signals.reason() {
            Some(StopReason::Cancelled) => Some(Outcome::Cancelled),
            Some(StopReason::LeaseLost) => None,
            Some(StopReason::WorkerStops) | None if job.standing.returns >= RETURNS_MAX => Some(Outcome::Undeliverable),
            Some(StopReason::WorkerStops) | None => {
                self.give_back_started(job.token);
                None
            }
        }
    }

    /// The worker stops before the attempt did. We vouch that it will not settle, so it may run elsewhere at once.
    fn give_back_started(&mut self, token: Token) {
        let Some(held) = self.wiring.held.remove(token) else { return };
        let mut standing = held.standing;
        standing.returns += 1;
        let finish = Finish { token, action: Action::Requeue { run_at: self.ctx.clock.now() }, standing };
        self.lanes.by_keys(&held.keys).finishes.push_back(finish);
    }

    pub(super) fn hand_back(&mut self) {
        self.wiring.jobs = None;
        let unstarted = self.wiring.held.take_unstarted();
        if !unstarted.is_empty() {
            tracing::info!(n_jobs = unstarted.len(), "handing back what has not started");
        }
        for held in unstarted {
            self.release(&held);
        }
    }

    /// Back to the front of its list, as if it had never been leased.
    pub(super) fn release(&mut self, held: &Delivered) {
        debug_assert_eq!(held.phase, Phase::Reserved, "only what has not started is handed back unspent");
        let mut standing = held.standing;
        standing.attempt -= 1;
        self.lanes.by_keys(&held.keys).finishes.push_back(Finish { token: held.token, action: Action::Release, standing });
    }
}
