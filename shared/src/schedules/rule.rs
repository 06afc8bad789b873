//! When a schedule fires, and what becomes of what it missed.

use super::expression::{self, Expression};
use crate::{Error, Result};
use time::{Duration, OffsetDateTime};

/// Occurrences that one schedule makes up for after a time without a leader: the newest of them.
pub const CAUGHT_UP_MAX: usize = 100;

/// A rule that fires some day.
#[derive(Debug, Clone)]
pub struct Rule(Repeats);

#[derive(Debug, Clone)]
enum Repeats {
    Cron(Box<Expression>),
    Every(Duration),
}

/// What becomes of occurrences that nobody was there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// The last one fires if it is not later than this; the others are left out.
    Late(Duration),
    /// All fire, one after the other, [`CAUGHT_UP_MAX`] of them at most.
    All,
}

/// What is to be done about a schedule that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The occurrence that fires now; `None`: all that there were are too late.
    pub fire_at: Option<OffsetDateTime>,
    /// The next one; not after now where there is more to make up for. `None`: never again.
    pub next_run_at: Option<OffsetDateTime>,
}

impl Rule {
    /// By a cron expression. Refuses what never comes, as of `now`.
    pub fn cron(expression: &str, timezone: &str, now: OffsetDateTime) -> Result<Self> {
        let expression = Expression::parse(expression, timezone, now)?;
        if expression.after(now).is_none() {
            return Err(Error::invalid("/cron", "never_fires", format!("names no time that comes within {} years", expression::YEARS)));
        }
        Ok(Self(Repeats::Cron(Box::new(expression))))
    }

    /// Once per `every`, counted from its first occurrence.
    pub const fn every(every: Duration) -> Self {
        Self(Repeats::Every(every))
    }

    /// The first occurrence after `at`; `anchor` is one that a period is counted from.
    pub fn after(&self, at: OffsetDateTime, anchor: OffsetDateTime) -> Option<OffsetDateTime> {
        match &self.0 {
            Repeats::Cron(expression) => expression.after(at),
            Repeats::Every(every) => latest(anchor, at, *every)?.checked_add(*every),
        }
    }

    /// The occurrences after `at`, in order.
    pub fn occurrences(&self, at: OffsetDateTime, anchor: OffsetDateTime) -> impl Iterator<Item = OffsetDateTime> {
        std::iter::successors(self.after(at, anchor), move |last| self.after(*last, anchor))
    }

    /// What to do about a schedule that has been due since `due`.
    pub fn turn(&self, due: OffsetDateTime, now: OffsetDateTime, catch_up: CatchUp) -> Turn {
        let newest = self.until(now, due).map_or(due, |newest| newest.max(due));
        match catch_up {
            CatchUp::Late(late_max) => Turn { fire_at: (now - newest <= late_max).then_some(newest), next_run_at: self.after(now, due) },
            CatchUp::All => {
                let fire_at = self.oldest(newest, due);
                Turn { fire_at: Some(fire_at), next_run_at: self.after(fire_at, due) }
            }
        }
    }

    /// Goes back from the newest occurrence to `due`, or as far as is made up for.
    fn oldest(&self, newest: OffsetDateTime, due: OffsetDateTime) -> OffsetDateTime {
        let earlier = std::iter::successors(Some(newest), |later| self.until(*later - Duration::NANOSECOND, due));
        earlier.take(CAUGHT_UP_MAX).take_while(|at| *at >= due).last().unwrap_or(due)
    }

    /// The last occurrence that is not after `at`.
    fn until(&self, at: OffsetDateTime, anchor: OffsetDateTime) -> Option<OffsetDateTime> {
        match &self.0 {
            Repeats::Cron(expression) => expression.until(at),
            Repeats::Every(every) => latest(anchor, at, *every),
        }
    }
}

/// The last of …, `anchor - every`, `anchor`, `anchor + every`, … that is not after `at`.
fn latest(anchor: OffsetDateTime, at: OffsetDateTime, every: Duration) -> Option<OffsetDateTime> {
    let (anchor, at, every) = (anchor.unix_timestamp_nanos(), at.unix_timestamp_nanos(), every.whole_nanoseconds());
    OffsetDateTime::from_unix_timestamp_nanos(at - (at - anchor).rem_euclid(every)).ok()
}

#[cfg(test)]
mod tests;
