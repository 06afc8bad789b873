//! What may be called, and in which mixture.

use super::{N_JOBS, N_WORKERS};
use proptest::prelude::*;

/// A job by its place in the case.
pub(super) type Job = usize;

/// A lease's token, by which one of those that were ever given: 0 is the job's newest, 1 the one before, and so on; beyond the
/// first one, a token that nobody was given.
pub(super) type Age = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Due,
    Later,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    End,
    Requeue(When),
    Release,
    Return,
    /// A requeue after the job's process crashed.
    Suspect,
}

#[derive(Debug, Clone)]
pub(super) struct Copied {
    pub(super) job: Job,
    pub(super) attempt: i32,
    pub(super) crashes: i16,
    pub(super) when: When,
}

/// What is missing of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Torn {
    Token,
    Expiry,
    /// The copy itself, leased or not.
    Copy,
}

#[derive(Debug, Clone)]
pub(super) enum Call {
    Enqueue {
        copies: Vec<Copied>,
        is_stale: bool,
    },
    Step {
        worker: usize,
        finish: Vec<(Job, Age, Ending)>,
        mark: Vec<(Job, Age)>,
        started: Vec<(Job, Age)>,
        want: usize,
        is_quarantine: bool,
    },
    Heartbeat(Vec<(Job, Age)>),
    Sweep {
        limit: usize,
    },
    Take {
        job: Job,
        is_cancel: bool,
    },
    /// With the copy as it is, or as it is not.
    Remove(Vec<(Job, bool)>),
    Restore {
        is_paused: bool,
    },
    Pause {
        is_paused: bool,
    },
    /// FLUSHALL, as far as this queue goes.
    Flush,
    /// Another Redis, with the same data.
    Restart,
    /// A Redis that holds halves of what scripts wrote: the `torn` jobs' leases lack a part, and whatever waits may be lost. It
    /// is rebuilt from rows, one for each job.
    Rebuild {
        rows: Vec<Copied>,
        torn: Vec<(Job, Torn)>,
    },
    /// An hour passes for the job's lease, or for its delay.
    Pass {
        job: Job,
    },
}

pub(super) fn any_call() -> impl Strategy<Value = Call> {
    let endings =
        any_of(&[Ending::End, Ending::Requeue(When::Due), Ending::Requeue(When::Later), Ending::Release, Ending::Return, Ending::Suspect]);
    let finish = jobs((age(), endings)).prop_map(|finish| finish.into_iter().map(|(job, (age, ending))| (job, age, ending)).collect());
    let step = (0..N_WORKERS, finish, jobs(age()), jobs(age()), 0..4_usize, prop::bool::weighted(0.2));
    let step = step.prop_map(|(worker, finish, mark, started, want, is_quarantine)| Call::Step {
        worker,
        finish,
        mark,
        started,
        want,
        is_quarantine,
    });
    let lease = (0..N_WORKERS, 1..5_usize, prop::bool::weighted(0.2)).prop_map(|(worker, want, is_quarantine)| Call::Step {
        worker,
        finish: vec![],
        mark: vec![],
        started: vec![],
        want,
        is_quarantine,
    });
    let copied = jobs((0..4_i32, prop::bool::weighted(0.15), any_of(&[When::Due, When::Later])));
    let copies = copied.prop_map(|copies| {
        let copy = |(job, (attempt, is_suspect, when))| Copied { job, attempt, crashes: i16::from(is_suspect), when };
        copies.into_iter().map(copy).collect()
    });
    let rows = prop::collection::vec((0..4_i32, any_of(&[When::Due, When::Later])), N_JOBS).prop_map(|rows| {
        let row = |(job, (attempt, when))| Copied { job, attempt, crashes: 0, when };
        rows.into_iter().enumerate().map(row).collect()
    });
    let rebuild = (rows, jobs(any_of(&[Torn::Token, Torn::Expiry, Torn::Copy])));
    prop_oneof![
        2 => rebuild.prop_map(|(rows, torn)| Call::Rebuild { rows, torn }),
        6 => (copies, prop::bool::weighted(0.1)).prop_map(|(copies, is_stale)| Call::Enqueue { copies, is_stale }),
        6 => step,
        5 => lease,
        // Who holds nothing sends none.
        2 => jobs(age()).prop_filter("somebody's", |jobs| !jobs.is_empty()).prop_map(Call::Heartbeat),
        4 => (1..4_usize).prop_map(|limit| Call::Sweep { limit }),
        3 => (0..N_JOBS, any::<bool>()).prop_map(|(job, is_cancel)| Call::Take { job, is_cancel }),
        2 => jobs(prop::bool::weighted(0.7)).prop_map(Call::Remove),
        3 => prop::bool::weighted(0.1).prop_map(|is_paused| Call::Restore { is_paused }),
        1 => any::<bool>().prop_map(|is_paused| Call::Pause { is_paused }),
        1 => Just(Call::Flush),
        1 => Just(Call::Restart),
        6 => (0..N_JOBS).prop_map(|job| Call::Pass { job }),
    ]
}

/// Some jobs, each at most once, with something for each.
fn jobs<T: std::fmt::Debug + Clone>(with: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<(Job, T)>> {
    prop::collection::btree_map(0..N_JOBS, with, 0..4).prop_map(|jobs| jobs.into_iter().collect())
}

fn age() -> impl Strategy<Value = Age> {
    prop_oneof![6 => Just(0), 1 => Just(1), 1 => Just(2)]
}

fn any_of<T: Copy + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(values)
}
