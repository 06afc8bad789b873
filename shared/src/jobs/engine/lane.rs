//! One queue as the leasing task sees it: what the next beat brings to it, and whether it may have more to give.

use super::{
    IDS_MAX,
    held::{Delivered, Phase, Signals},
    load::Draft,
    outcome::Conclusion,
    scripts::{Finish, LeaseFrom, QueueKeys, Step, Stepped},
    token::Token,
};
use crate::jobs::QueueName;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) keys: Arc<QueueKeys>,
    /// Whether this worker leases from it.
    pub(super) is_consumed: bool,
    /// Whether it rang, was full, or was not looked at for a while.
    pub(super) may_have_more: bool,
    pub(super) finishes: VecDeque<Finish>,
    pub(super) started: Vec<Token>,
    /// Marked in the beat under way; to PostgreSQL once the script agrees.
    pub(super) marked: Vec<Conclusion>,
}

impl Lane {
    fn new(keys: QueueKeys) -> Self {
        Self {
            keys: Arc::new(keys),
            is_consumed: false,
            may_have_more: true,
            finishes: VecDeque::new(),
            started: Vec::new(),
            marked: Vec::new(),
        }
    }

    pub(super) fn is_hungry(&self) -> bool {
        self.is_consumed && self.may_have_more
    }

    /// The beat's call; what it takes comes back by [`Lane::undo`] if the call fails.
    pub(super) fn step(&mut self, want: usize, from: LeaseFrom) -> Step {
        Step {
            finish: self.finishes.drain(..self.finishes.len().min(IDS_MAX)).collect(),
            mark: self.marked.iter().map(|conclusion| conclusion.delivery.token).collect(),
            started: self.started.drain(..self.started.len().min(IDS_MAX)).collect(),
            want: want.min(IDS_MAX),
            from,
        }
    }

    /// Every part of a step may be told twice, so a failed one is told again as it was.
    pub(super) fn undo(&mut self, step: Step) {
        for finish in step.finish.into_iter().rev() {
            self.finishes.push_front(finish);
        }
        self.started.extend(step.started);
    }

    /// Takes the answer in: returns what the script refused and what it let pass.
    pub(super) fn take_marked(&mut self, stepped: &Stepped) -> (Vec<Conclusion>, Vec<Conclusion>) {
        let marked = std::mem::take(&mut self.marked);
        if stepped.refused.is_empty() {
            return (Vec::new(), marked);
        }
        marked.into_iter().partition(|conclusion| stepped.refused.contains(&conclusion.delivery.token.job_id))
    }
}

/// All queues of this worker, found by name.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) all: Vec<Lane>,
    by_name: HashMap<QueueName, usize>,
    /// Where sharing out starts, so that no queue is always first.
    turn: usize,
}

impl Lanes {
    pub(super) fn by_keys(&mut self, keys: &QueueKeys) -> &mut Lane {
        let at = self.by_name[&keys.queue];
        &mut self.all[at]
    }

    pub(super) fn get_mut(&mut self, queue: &QueueName) -> Option<&mut Lane> {
        self.by_name.get(queue).map(|at| &mut self.all[*at])
    }

    /// Consumes exactly `queues` from now on; lanes of others stay until what they hold is settled.
    pub(super) fn consume(&mut self, queues: &[QueueName], keys_of: impl Fn(&QueueName) -> QueueKeys) {
        for lane in &mut self.all {
            lane.is_consumed = false;
        }
        for queue in queues {
            let at = *self.by_name.entry(queue.clone()).or_insert_with(|| {
                self.all.push(Lane::new(keys_of(queue)));
                self.all.len() - 1
            });
            self.all[at].is_consumed = true;
        }
    }

    pub(super) fn rouse_all(&mut self) {
        for lane in &mut self.all {
            lane.may_have_more = true;
        }
    }

    pub(super) fn any_hungry(&self) -> bool {
        self.all.iter().any(Lane::is_hungry)
    }

    /// Deals `want` jobs out over the hungry lanes: how many each may lease, by lane.
    pub(super) fn deal(&mut self, want: usize) -> Vec<usize> {
        let mut shares = vec![0; self.all.len()];
        let hungry: Vec<usize> = (0..self.all.len()).filter(|at| self.all[*at].is_hungry()).collect();
        if want == 0 || hungry.is_empty() {
            return shares;
        }
        self.turn = self.turn.wrapping_add(1);
        let share = want.div_ceil(hungry.len());
        let mut left = want;
        for n in 0..hungry.len() {
            let at = hungry[(n + self.turn) % hungry.len()];
            shares[at] = share.min(left);
            left -= shares[at];
        }
        shares
    }
}

/// What the worker holds of a job from the moment it is leased.
pub(super) fn delivered(draft: &Draft, signals: &Arc<Signals>) -> Delivered {
    Delivered {
        token: draft.token,
        keys: Arc::clone(&draft.keys),
        kind: draft.kind.clone(),
        standing: draft.standing,
        run_at: draft.run_at,
        phase: Phase::Reserved,
        signals: Arc::clone(signals),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;

    fn lanes(n: usize) -> Lanes {
        let queues: Vec<QueueName> = (0..n).map(|i| QueueName::new(&format!("q{i}")).unwrap()).collect();
        let keys = Keys::new("t");
        let mut lanes = Lanes::default();
        lanes.consume(&queues, |queue| QueueKeys::new(&keys, queue));
        lanes
    }

    #[test]
    fn shares_sum_to_the_wish_and_take_turns() {
        let mut lanes = lanes(3);
        let first = lanes.deal(4);
        assert_eq!(first.iter().sum::<usize>(), 4);
        let second = lanes.deal(4);
        assert_ne!(first, second);
        assert_eq!(lanes.deal(0), [0, 0, 0]);
    }

    #[test]
    fn a_queue_that_is_no_longer_consumed_gets_no_share() {
        let mut lanes = lanes(2);
        let keys = Keys::new("t");
        lanes.consume(&[QueueName::new("q1").unwrap()], |queue| QueueKeys::new(&keys, queue));
        assert_eq!(lanes.deal(8), [0, 8]);
    }
}
