//! One queue as the scripts' comments describe it.

use super::{
    N_JOBS,
    apply::Answer,
    calls::{Age, Call, Copied, Ending, Job, Torn, When},
    layout::{Layout, Place},
};
use crate::jobs::engine::Standing;
use std::collections::BTreeMap;

/// A token as the model names it: attempt, and who leased.
pub(super) type Given = (i32, Holder);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    Worker(usize),
    /// Somebody who took it to cancel or delete it; each time another one.
    Outsider(usize),
    Nobody,
}

/// Every so many leases one takes the oldest job.
const FAIR_EVERY: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Model {
    copies: BTreeMap<Job, (Standing, Place)>,
    /// By priority, and 10 for the suspects; entries whose copy is not ready are leftovers.
    lists: [Vec<Job>; 11],
    is_known: bool,
    is_paused: Option<bool>,
    n_leased: usize,
    n_outsiders: usize,
    /// Every token that was given for a job, the newest last.
    pub(super) tokens: [Vec<Given>; N_JOBS],
}

pub(super) const PRIORITIES: [i16; N_JOBS] = [4, 4, 9, 0, 4, 7];

/// A token of the given age.
pub(super) fn token(tokens: &[Vec<Given>; N_JOBS], job: Job, age: Age) -> Given {
    let given = &tokens[job];
    given.len().checked_sub(age + 1).map_or((1, Holder::Nobody), |at| given[at])
}

fn standing_of(job: Job, attempt: i32) -> Standing {
    Standing { priority: PRIORITIES[job], attempt, failures: 0, snoozes: 0, returns: 0, crashes: 0 }
}

/// The standing after an ending, as callers make it from the one that they leased.
pub(super) fn standing_after(attempt: i32, job: Job, ending: Ending) -> Standing {
    let before = standing_of(job, attempt);
    match ending {
        Ending::End | Ending::Requeue(_) => Standing { failures: 1, ..before },
        Ending::Release => Standing { attempt: attempt - 1, ..before },
        Ending::Return => Standing { returns: 1, ..before },
        Ending::Suspect => Standing { crashes: 1, ..before },
    }
}

impl Model {
    pub(super) fn layout(&self) -> Layout {
        Layout { copies: self.copies.clone(), lists: self.lists.clone(), is_known: self.is_known, is_paused: self.is_paused == Some(true) }
    }

    pub(super) fn apply(&mut self, call: &Call) -> Answer {
        match call {
            Call::Enqueue { is_stale: true, .. } => Answer::Count(None),
            Call::Enqueue { copies, is_stale: false } => Answer::Count(Some(copies.iter().map(|copy| self.enqueue(copy)).sum())),
            Call::Step { worker, finish, mark, started, want, is_quarantine } => {
                self.step(*worker, finish, mark, started, *want, *is_quarantine)
            }
            Call::Heartbeat(jobs) => self.heartbeat(jobs),
            Call::Sweep { limit } => self.sweep(*limit),
            Call::Take { job, is_cancel } => self.take(*job, *is_cancel),
            Call::Remove(jobs) => Answer::Count(Some(jobs.iter().map(|(job, as_seen)| self.remove(*job, *as_seen)).sum())),
            Call::Restore { is_paused } => {
                self.is_known = true;
                self.is_paused = Some(*is_paused);
                Answer::None
            }
            Call::Pause { is_paused } => {
                self.is_paused = Some(*is_paused);
                Answer::None
            }
            Call::Flush => {
                let (tokens, n_outsiders) = (std::mem::take(&mut self.tokens), self.n_outsiders);
                *self = Self { tokens, n_outsiders, ..Self::default() };
                Answer::None
            }
            Call::Restart => {
                self.is_known = false;
                Answer::None
            }
            Call::Rebuild { rows, torn } => {
                self.rebuild(rows, torn);
                Answer::Count(None)
            }
            Call::Pass { job } => {
                match self.copies.get_mut(job) {
                    Some((_, Place::Leased { is_over, .. } | Place::Delayed { is_over })) => *is_over = true,
                    Some((_, Place::Ready)) | None => {}
                }
                Answer::None
            }
        }
    }

    fn enqueue(&mut self, copied: &Copied) -> u64 {
        let standing = Standing { crashes: copied.crashes, ..standing_of(copied.job, copied.attempt) };
        let before = self.copies.get(&copied.job).copied();
        if before.is_some_and(|(before, _)| before.attempt > copied.attempt) {
            return 0;
        }
        let was_ready = before.is_some_and(|(_, place)| place == Place::Ready);
        if was_ready && copied.when == When::Due {
            // It keeps its turn.
            self.copies.insert(copied.job, (standing, Place::Ready));
        } else {
            self.place(copied.job, standing, copied.when);
        }
        1
    }

    /// Every job that is not under a whole lease waits where its row says, with the newer of both standings.
    fn rebuild(&mut self, rows: &[Copied], torn: &[(Job, Torn)]) {
        self.lists = std::array::from_fn(|_| Vec::new());
        for row in rows {
            if torn.contains(&(row.job, Torn::Copy)) {
                self.copies.remove(&row.job);
            }
            let newer = self.copies.get(&row.job).filter(|(before, _)| before.attempt > row.attempt).copied();
            let is_torn = torn.iter().any(|(job, _)| *job == row.job);
            match newer {
                Some((_, Place::Leased { .. })) if !is_torn => {}
                Some((standing, _)) => self.place(row.job, standing, row.when),
                None => self.place(row.job, Standing { crashes: row.crashes, ..standing_of(row.job, row.attempt) }, row.when),
            }
        }
    }

    fn place(&mut self, job: Job, standing: Standing, when: When) {
        match when {
            When::Later => drop(self.copies.insert(job, (standing, Place::Delayed { is_over: false }))),
            When::Due => self.make_ready(job, standing, Vec::push),
        }
    }

    fn make_ready(&mut self, job: Job, standing: Standing, put: impl Fn(&mut Vec<Job>, Job)) {
        self.copies.insert(job, (standing, Place::Ready));
        put(&mut self.lists[list_of(standing)], job);
    }

    fn holds(&self, job: Job, age: Age) -> bool {
        let given = token(&self.tokens, job, age);
        matches!(self.copies.get(&job), Some((standing, Place::Leased { holder, .. })) if (standing.attempt, *holder) == given)
    }

    fn step(
        &mut self,
        worker: usize,
        finish: &[(Job, Age, Ending)],
        mark: &[(Job, Age)],
        started: &[(Job, Age)],
        want: usize,
        is_quarantine: bool,
    ) -> Answer {
        let cancelled = finish.iter().filter(|(job, age, ending)| self.finish(*job, *age, *ending)).map(|(job, ..)| *job).collect();
        let refused = self.flag(mark, 's');
        self.flag(started, 'S');
        let known = self.is_known || want == 0;
        let (leased, more) = if want > 0 && self.is_known && self.is_paused != Some(true) {
            self.lease(worker, want, is_quarantine)
        } else {
            (vec![], false)
        };
        Answer::Stepped { refused, cancelled, leased, more, known }
    }

    /// Whether it is requeued although its cancel was asked for.
    fn finish(&mut self, job: Job, age: Age, ending: Ending) -> bool {
        if !self.holds(job, age) {
            return false;
        }
        let Some((before, Place::Leased { flag, is_cancelled, is_over, .. })) = self.copies.get(&job).copied() else { return false };
        let standing = standing_after(before.attempt, job, ending);
        match ending {
            Ending::End => {
                self.copies.remove(&job);
                return false;
            }
            Ending::Return if flag != 'l' || !is_over => return false,
            Ending::Requeue(When::Later) => drop(self.copies.insert(job, (standing, Place::Delayed { is_over: false }))),
            Ending::Requeue(When::Due) | Ending::Suspect => self.make_ready(job, standing, Vec::push),
            Ending::Release | Ending::Return => self.make_ready(job, standing, |list, job| list.insert(0, job)),
        }
        is_cancelled
    }

    fn flag(&mut self, jobs: &[(Job, Age)], letter: char) -> Vec<Job> {
        let mut refused = Vec::new();
        for (job, age) in jobs {
            if !self.holds(*job, *age) {
                refused.push(*job);
            } else if let Some((_, Place::Leased { flag, .. })) = self.copies.get_mut(job) {
                // News of a start may come after the mark.
                if letter == 's' || *flag == 'l' {
                    *flag = letter;
                }
            }
        }
        refused
    }

    fn lease(&mut self, worker: usize, want: usize, is_quarantine: bool) -> (Vec<(Job, Standing)>, bool) {
        let mut leased = Vec::new();
        let mut more = false;
        for round in 0..8 {
            let missing = want - leased.len();
            let n_oldest = if round == 0 { (self.n_leased + missing) / FAIR_EVERY - self.n_leased / FAIR_EVERY } else { 0 };
            let popped = if is_quarantine { pop_front(&mut self.lists[10], missing) } else { self.pop(missing, n_oldest) };
            more = popped.len() >= missing;
            if popped.is_empty() {
                break;
            }
            let mut suspects = Vec::new();
            for job in popped {
                let Some((standing, Place::Ready)) = self.copies.get(&job).copied() else { continue };
                if !is_quarantine && standing.crashes > 0 {
                    suspects.push(job);
                    continue;
                }
                let standing = Standing { attempt: standing.attempt + 1, ..standing };
                let holder = Holder::Worker(worker);
                self.copies.insert(job, (standing, Place::Leased { holder, flag: 'l', is_cancelled: false, is_over: false }));
                self.tokens[job].push((standing.attempt, holder));
                leased.push((job, standing));
            }
            self.lists[10].extend(suspects);
            if leased.len() >= want {
                break;
            }
        }
        self.n_leased += leased.len();
        (leased, more)
    }

    /// `n_oldest` of them the oldest over all bands, the rest by priority.
    fn pop(&mut self, count: usize, n_oldest: usize) -> Vec<Job> {
        let mut popped = Vec::new();
        for _ in 0..n_oldest {
            let Some(list) = self.lists[..10].iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list[0]) else { break };
            popped.push(list.remove(0));
        }
        for band in (0..10).rev() {
            let missing = count - popped.len();
            popped.extend(pop_front(&mut self.lists[band], missing));
        }
        popped
    }

    fn heartbeat(&mut self, jobs: &[(Job, Age)]) -> Answer {
        let (mut lost, mut cancels) = (Vec::new(), Vec::new());
        for (job, age) in jobs {
            if !self.holds(*job, *age) {
                lost.push(*job);
            } else if let Some((_, Place::Leased { is_cancelled, is_over, .. })) = self.copies.get_mut(job) {
                *is_over = false;
                cancels.extend(is_cancelled.then_some(*job));
            }
        }
        Answer::Heard { lost, cancels }
    }

    fn sweep(&mut self, limit: usize) -> Answer {
        let due: Vec<(Job, Standing)> = self.at(|place| matches!(place, Place::Delayed { is_over: true }), limit);
        for (job, standing) in &due {
            self.make_ready(*job, *standing, Vec::push);
        }
        let expired = self.at(|place| matches!(place, Place::Leased { is_over: true, .. }), limit);
        let expired = expired.into_iter().map(|(job, standing)| {
            let is_started = matches!(self.copies[&job].1, Place::Leased { flag: 's' | 'S', .. });
            (job, standing, is_started)
        });
        Answer::Swept { known: self.is_known, n_promoted: due.len(), expired: expired.collect() }
    }

    /// Jobs in a place, in the order of their ids: what is over is over since the same moment.
    fn at(&self, is_there: impl Fn(&Place) -> bool, limit: usize) -> Vec<(Job, Standing)> {
        let there = self.copies.iter().filter(|(_, (_, place))| is_there(place));
        there.map(|(job, (standing, _))| (*job, *standing)).take(limit).collect()
    }

    fn take(&mut self, job: Job, is_cancel: bool) -> Answer {
        let answer = match self.copies.get_mut(&job) {
            None => "absent",
            Some((_, Place::Leased { flag: 's', .. })) => "settling",
            Some((_, Place::Leased { is_cancelled, .. })) => {
                *is_cancelled |= is_cancel;
                "running"
            }
            Some((standing, place)) => {
                let holder = Holder::Outsider(self.n_outsiders);
                self.n_outsiders += 1;
                standing.attempt += 1;
                *place = Place::Leased { holder, flag: if is_cancel { 's' } else { 'l' }, is_cancelled: false, is_over: false };
                self.tokens[job].push((standing.attempt, holder));
                "taken"
            }
        };
        Answer::Taken(answer)
    }

    fn remove(&mut self, job: Job, is_as_seen: bool) -> u64 {
        let is_waiting = self.copies.get(&job).is_some_and(|(_, place)| !matches!(place, Place::Leased { .. }));
        let is_removed = is_waiting && is_as_seen;
        if is_removed {
            self.copies.remove(&job);
        }
        u64::from(is_removed)
    }
}

pub(super) fn list_of(standing: Standing) -> usize {
    if standing.crashes > 0 { 10 } else { usize::try_from(standing.priority).expect("0 to 9") }
}

fn pop_front(list: &mut Vec<Job>, count: usize) -> Vec<Job> {
    list.drain(..count.min(list.len())).collect()
}
