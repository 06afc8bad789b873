//! The in-flight limit of one worker thread, and how the classes of routes share it. What is over it is shed at once, before its
//! body is read and before anything else is done for it. Probes always pass. Idle keep-alive connections do not count.
//!
//! Each class has a few places that no other class takes; the rest is for whoever comes first. So a class alone may have nearly all
//! places, and no class can keep another out. Those of operators are beside the limit.

use super::{
    adaptive::{Adaptive, Sample},
    classes::RouteClass,
};
use metrics::{Counter, Gauge, Histogram};
use shared::{
    config::{ConcurrencyMode, Settings},
    telemetry::metrics::{HTTP_CONCURRENCY_LIMIT, HTTP_SHED, HTTP_SHED_SECONDS},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

/// Places of its own that a class has, in hundredths of the limit. Together they leave most to whoever comes first.
const fn own_percent(class: RouteClass) -> usize {
    match class {
        RouteClass::Login | RouteClass::Bulk | RouteClass::Operator => 5,
        RouteClass::Write | RouteClass::Read => 10,
    }
}

/// Requests that a worker thread sheds in a second without putting anything off: what that takes is a few hundredths of its time.
const SHED_PER_S: u32 = 1_000;
/// Longest that a connection is put off. Who was shed was told to come back after a second at least.
const PUT_OFF_MAX: Duration = Duration::from_millis(500);

/// Turns come together, so that the thread wakes up once for many of them: waking up costs more than the answer.
const TURNS_EVERY: Duration = Duration::from_millis(20);

/// Why a request was shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// All places that its class may take are taken.
    InFlight,
    /// As many of its class are in flight as there may be, whatever the others do.
    Class,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Class => "class",
        }
    }
}

/// One per worker thread.
#[derive(Debug)]
pub(super) struct Admission {
    in_flight: [Cell<usize>; RouteClass::ALL.len()],
    /// Sign-ins that may be in flight: those that the hash function's queue takes.
    logins_max: usize,
    limit: Cell<usize>,
    adaptive: Option<RefCell<Adaptive>>,
    /// When the next that is shed would have its turn.
    next_turn: Cell<Option<Instant>>,
    begun: Instant,
    meters: Meters,
}

#[derive(Debug)]
struct Meters {
    limit: Gauge,
    shed: [(Counter, Counter); RouteClass::ALL.len()],
    shed_seconds: Histogram,
}

/// A place among those in flight, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Place {
    admission: Rc<Admission>,
    class: RouteClass,
    since: Instant,
    /// Whether how long it is kept tells how busy the process is.
    is_sample: bool,
}

impl Admission {
    pub(super) fn new(settings: &Settings, worker: &str) -> Rc<Self> {
        let limit = settings.api_concurrency_limit;
        let adaptive = match settings.api_concurrency_mode {
            ConcurrencyMode::Fixed => None,
            ConcurrencyMode::Adaptive => Some(RefCell::new(Adaptive::new(limit))),
        };
        let hashes = settings.password_hashes_max() + settings.password_queue_max;
        let meters = Meters::new(worker);
        meters.limit.set(limit as f64);
        Rc::new(Self {
            in_flight: Default::default(),
            logins_max: hashes.div_ceil(settings.api_workers()),
            limit: Cell::new(limit),
            adaptive,
            next_turn: Cell::new(None),
            begun: Instant::now(),
            meters,
        })
    }

    /// A place for a request that arrived at `arrived`.
    pub(super) fn admit(self: &Rc<Self>, class: RouteClass, arrived: Instant) -> Result<Place, Reason> {
        match self.refusal(class) {
            None => {
                self.count(class).set(self.count(class).get() + 1);
                Ok(Place { admission: Rc::clone(self), class, since: arrived, is_sample: true })
            }
            Some(reason) => {
                let (in_flight, of_class) = &self.meters.shed[class as usize];
                match reason {
                    Reason::InFlight => in_flight.increment(1),
                    Reason::Class => of_class.increment(1),
                }
                Err(reason)
            }
        }
    }

    /// When a connection is read again whose request was shed at `now`: each has its turn after those before it, so that shedding goes on
    /// at a bounded pace however many come.
    pub(super) fn next_turn(&self, now: Instant) -> Instant {
        let turn = self.next_turn.get().map_or(now, |turn| turn.clamp(now, now + PUT_OFF_MAX));
        self.next_turn.set(Some(turn + Duration::from_secs(1) / SHED_PER_S));
        if turn == now { turn } else { self.together(turn) }
    }

    /// The next moment at or after `turn` at which turns come.
    fn together(&self, turn: Instant) -> Instant {
        let since = turn.saturating_duration_since(self.begun);
        let rest_ns = since.as_nanos() % TURNS_EVERY.as_nanos();
        turn + Duration::from_nanos(u64::try_from((TURNS_EVERY.as_nanos() - rest_ns) % TURNS_EVERY.as_nanos()).unwrap_or(0))
    }

    /// Records how long it took to shed, once that is answered.
    pub(super) fn shed_within(&self, arrived: Instant) {
        self.meters.shed_seconds.record(arrived.elapsed());
    }

    fn refusal(&self, class: RouteClass) -> Option<Reason> {
        let n = self.count(class).get();
        if class == RouteClass::Login && n >= self.logins_max {
            return Some(Reason::Class);
        }
        let has_room = n < self.own(class) || self.n_common() < self.common_max();
        (!has_room).then_some(Reason::InFlight)
    }

    /// Places that the class alone may take.
    fn own(&self, class: RouteClass) -> usize {
        let own = self.limit.get() * own_percent(class) / 100;
        if class == RouteClass::Operator { own.max(1) } else { own }
    }

    /// Those in flight beyond what is their class's own.
    fn n_common(&self) -> usize {
        RouteClass::ALL.iter().map(|class| self.count(*class).get().saturating_sub(self.own(*class))).sum()
    }

    fn common_max(&self) -> usize {
        let others = RouteClass::ALL.iter().filter(|class| **class != RouteClass::Operator);
        self.limit.get() - others.map(|class| self.own(*class)).sum::<usize>()
    }

    fn count(&self, class: RouteClass) -> &Cell<usize> {
        &self.in_flight[class as usize]
    }

    fn release(&self, place: &Place) {
        let count = self.count(place.class);
        let n_before: usize = self.in_flight.iter().map(Cell::get).sum();
        count.set(count.get() - 1);
        let Some(adaptive) = self.adaptive.as_ref().filter(|_| place.is_sample) else { return };
        let now = Instant::now();
        let sample = Sample { class: place.class, took: now.saturating_duration_since(place.since), in_flight: n_before };
        if let Some(limit) = adaptive.borrow_mut().learn(sample, now) {
            self.limit.set(limit);
            self.meters.limit.set(limit as f64);
        }
    }
}

impl Place {
    /// Gives it back without its time being learned from: who waits for something else tells nothing.
    pub(super) fn leave(mut self) {
        self.is_sample = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.release(self);
    }
}

impl Meters {
    fn new(worker: &str) -> Self {
        let shed = |class: RouteClass, reason: Reason| metrics::counter!(HTTP_SHED, "reason" => reason.as_str(), "class" => class.as_str());
        Self {
            limit: metrics::gauge!(HTTP_CONCURRENCY_LIMIT, "worker" => worker.to_owned()),
            shed: RouteClass::ALL.map(|class| (shed(class, Reason::InFlight), shed(class, Reason::Class))),
            shed_seconds: metrics::histogram!(HTTP_SHED_SECONDS),
        }
    }
}

#[cfg(test)]
mod tests;
