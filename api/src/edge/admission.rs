//! The in-flight limit of one worker thread, and how the classes of routes share it. What is over it is shed at once, before its
//! body is read and before anything else is done for it. Probes always pass. Idle keep-alive connections do not count, nor does who
//! waits for a body that is on its way, or for a turn: a place is for those who are worked on, and is taken again when work begins.
//!
//! Each class has a few places that no other class takes; the rest is for whoever comes first. So a class alone may have nearly all
//! places, and no class can keep another out. Those of operators are beside the limit.

use super::{
    adaptive::{Adaptive, Sample},
    classes::RouteClass,
};
use actix_web::http::StatusCode;
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
/// Longest that a connection is put off: a client that does not do as it is told must not take its connection for dead.
const PUT_OFF_MAX: Duration = Duration::from_secs(2);

/// Requests end in crowds, as commits do: a place that is free tells little, and how many were taken at the most within so long tells more.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// Turns come together, so that the thread wakes up once for many of them: waking up costs more than the answer.
const TURNS_EVERY: Duration = Duration::from_millis(20);

/// Why a request was shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// All places that its class may take are taken.
    InFlight,
    /// As many of its class are worked on as there may be, whatever the others do.
    Class,
    /// It was kept waiting before it was read, and most places were taken a moment ago.
    Late,
    /// It had given its place back while it waited, and there was none when its body or its turn came.
    Waited,
}

impl Reason {
    const ALL: [Self; 4] = [Self::InFlight, Self::Class, Self::Late, Self::Waited];

    const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Class => "class",
            Self::Late => "late",
            Self::Waited => "waited",
        }
    }
}

/// One per worker thread.
#[derive(Debug)]
pub(super) struct Admission {
    in_flight: [Cell<usize>; RouteClass::ALL.len()],
    /// Sign-ins that may be worked on: those that the hash function's queue takes.
    logins_max: usize,
    /// Those whose body is there. One whose body is on its way keeps no other out: its client may take its time.
    logins_at_work: Cell<usize>,
    limit: Cell<usize>,
    adaptive: Option<RefCell<Adaptive>>,
    /// When the next that is shed would have its turn.
    next_turn: Cell<Option<Instant>>,
    /// When one came last and found three quarters of the places for all taken.
    busy_at: Cell<Option<Instant>>,
    begun: Instant,
    meters: Meters,
}

#[derive(Debug)]
struct Meters {
    limit: Gauge,
    shed: [[Counter; Reason::ALL.len()]; RouteClass::ALL.len()],
    shed_seconds: Histogram,
}

/// A place among those in flight, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Place {
    admission: Rc<Admission>,
    class: RouteClass,
    /// When it was taken; later by as long as it was given back for.
    since: Instant,
    /// Since when it is given back, to be taken again.
    waits_since: Option<Instant>,
    /// Whether how long it is kept tells how busy the process is.
    is_sample: bool,
    is_login_at_work: bool,
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
            logins_at_work: Cell::new(0),
            limit: Cell::new(limit),
            adaptive,
            next_turn: Cell::new(None),
            busy_at: Cell::new(None),
            begun: Instant::now(),
            meters,
        })
    }

    /// A place for a request that arrived at `arrived`. One that was kept waiting before it was read is late already:
    /// while others come in time and are more than enough, they are served.
    pub(super) fn admit(self: &Rc<Self>, class: RouteClass, arrived: Instant, kept_waiting: bool) -> Result<Place, Reason> {
        if self.n_common() * 4 > self.common_max() * 3 {
            self.busy_at.set(Some(arrived));
        }
        let refusal = self.refusal(class).or_else(|| {
            let is_idle = self.in_flight.iter().all(|n| n.get() == 0);
            (kept_waiting && !is_idle && self.was_busy_lately(arrived)).then_some(Reason::Late)
        });
        let Some(reason) = refusal else {
            self.count(class).set(self.count(class).get() + 1);
            let admission = Rc::clone(self);
            return Ok(Place { admission, class, since: arrived, waits_since: None, is_sample: true, is_login_at_work: false });
        };
        Err(self.refuse(class, reason))
    }

    fn was_busy_lately(&self, now: Instant) -> bool {
        self.busy_at.get().is_some_and(|at| now.saturating_duration_since(at) < BUSY_FOR)
    }

    fn refuse(&self, class: RouteClass, reason: Reason) -> Reason {
        self.meters.shed[class as usize][reason as usize].increment(1);
        reason
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
        if class == RouteClass::Login && self.are_logins_full() {
            return Some(Reason::Class);
        }
        (!self.has_room(class)).then_some(Reason::InFlight)
    }

    fn has_room(&self, class: RouteClass) -> bool {
        self.count(class).get() < self.own(class) || self.n_common() < self.common_max()
    }

    fn are_logins_full(&self) -> bool {
        self.logins_at_work.get() >= self.logins_max
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
        if place.is_login_at_work {
            self.logins_at_work.set(self.logins_at_work.get() - 1);
        }
        if place.waits_since.is_some() {
            return;
        }
        let count = self.count(place.class);
        let n_before: usize = self.in_flight.iter().map(Cell::get).sum();
        count.set(count.get() - 1);
        let Some(adaptive) = self.adaptive.as_ref().filter(|_| place.is_sample) else { return };
        let now = Instant::now();
        let sample = Sample { class: place.class, took: place.took(now), in_flight: n_before };
        if let Some(limit) = adaptive.borrow_mut().learn(sample, now) {
            self.limit.set(limit);
            self.meters.limit.set(limit as f64);
        }
    }
}

impl Place {
    /// Gives it back until work begins: what its client or others take says nothing of this process, and keeps nobody out.
    pub(super) fn begin_wait(&mut self) {
        if self.waits_since.is_none() {
            let count = self.admission.count(self.class);
            count.set(count.get() - 1);
            self.waits_since = Some(Instant::now());
        }
    }

    /// What was waited for is there, above all the body, and work begins.
    pub(super) fn begin_work(&mut self) -> Result<(), Reason> {
        let admission = &self.admission;
        let is_next_login = self.class == RouteClass::Login && !self.is_login_at_work;
        if is_next_login && admission.are_logins_full() {
            return Err(admission.refuse(self.class, Reason::Class));
        }
        if let Some(waits_since) = self.waits_since {
            if !admission.has_room(self.class) {
                return Err(admission.refuse(self.class, Reason::Waited));
            }
            let count = admission.count(self.class);
            count.set(count.get() + 1);
            self.since += waits_since.elapsed();
            self.waits_since = None;
        }
        if is_next_login {
            admission.logins_at_work.set(admission.logins_at_work.get() + 1);
            self.is_login_at_work = true;
        }
        Ok(())
    }

    /// How long it was kept until `now`, without what it was given back for.
    fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// As [`Admission::next_turn`].
    pub(super) fn next_turn(&self, now: Instant) -> Instant {
        self.admission.next_turn(now)
    }

    /// Has nothing learned from how long it is kept.
    pub(super) fn is_no_sample(&mut self) {
        self.is_sample = false;
    }

    /// Gives it back when the request was answered with `status`.
    pub(super) fn end(mut self, status: StatusCode) {
        self.is_sample &= tells_of_the_process(status);
    }

    /// Gives it back without its time being learned from: who waits for something else tells nothing.
    pub(super) fn leave(mut self) {
        self.is_no_sample();
    }
}

/// Whether how long an answer took says how busy the process is: what is refused is quick whatever the process does, and what was too late
/// says the most.
fn tells_of_the_process(status: StatusCode) -> bool {
    status.as_u16() < 400 || status == StatusCode::GATEWAY_TIMEOUT
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
            shed: RouteClass::ALL.map(|class| Reason::ALL.map(|reason| shed(class, reason))),
            shed_seconds: metrics::histogram!(HTTP_SHED_SECONDS),
        }
    }
}

#[cfg(test)]
mod tests;
