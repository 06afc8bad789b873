//! Partitions ahead of time and for what comes late, retention, and what deleted tracks leave.

use super::{latest, store, time::to_time};
use crate::{Context, Result};
use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Instant,
};
use time::{Date, Duration, Month, OffsetDateTime};

/// Months that have their partition before the first point of theirs comes.
const MONTHS_AHEAD: i32 = 1;
/// Months back for which a partition is made when points of theirs come; what is older is in the default partition. A caller's times are not to
/// make any number of partitions.
const MONTHS_BACK: i32 = 24;
/// After this nobody takes a deleted track for one that is there; see `process::tracks`.
const WRITERS_FORGET_AFTER: Duration = Duration::minutes(5);
const TRACKS_AT_ONCE: i64 = 1_000;
/// Points that one statement deletes: no long lock.
const ROWS: i64 = 5_000;

/// A month, counted from year 0.
type MonthNumber = i32;

/// Months whose partition this process knows to be there.
#[derive(Debug, Default)]
pub struct KnownMonths(Mutex<HashSet<MonthNumber>>);

impl KnownMonths {
    fn knows(&self, month: MonthNumber) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&month)
    }

    fn learn(&self, month: MonthNumber) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(month);
    }

    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Makes the partitions of the points at `times`, as far as theirs are months that have one.
pub(super) async fn ensure_months(ctx: &Context, times: impl Iterator<Item = i64>) -> Result<()> {
    let now = month_of(ctx.clock.now());
    let mut last = None;
    for at_us in times {
        // Points come in the order of their time: the day says whether it is worth a look.
        let day = at_us.div_euclid(86_400_000_000);
        if last == Some(day) {
            continue;
        }
        last = Some(day);
        let Some(month) = to_time(at_us).map(month_of) else { continue };
        if (now - MONTHS_BACK..=now + MONTHS_AHEAD).contains(&month) && !ctx.points.months.knows(month) {
            add(ctx, month).await?;
        }
    }
    Ok(())
}

async fn add(ctx: &Context, month: MonthNumber) -> Result<()> {
    if store::upkeep::add_month(&ctx.pg, first_day(month)).await? {
        tracing::info!(month = %first_day(month), "made a partition for points");
    }
    ctx.points.months.learn(month);
    Ok(())
}

/// What the leader does now and then.
pub async fn keep_house(ctx: &Context) -> Result<()> {
    let now = ctx.clock.now();
    for month in month_of(now)..=month_of(now) + MONTHS_AHEAD {
        add(ctx, month).await?;
    }
    let kept = ctx.settings().point_retention_months;
    if kept > 0 {
        let cutoff = first_day(month_of(now) - i32::try_from(kept).unwrap_or(i32::MAX / 2)).midnight().assume_utc();
        let n_dropped = store::upkeep::drop_before(&ctx.pg, cutoff).await?;
        if n_dropped > 0 {
            ctx.points.months.forget();
            tracing::info!(n_months = n_dropped, "points past their retention were removed");
        }
    }
    Ok(())
}

/// Deletes what was written to tracks that are gone, until nothing is left or its time is up.
pub async fn clear_removed(ctx: &Context, within: std::time::Duration) -> Result<()> {
    let (now, deadline) = (ctx.clock.now(), Instant::now() + within);
    loop {
        let tracks = store::upkeep::removed_tracks(&ctx.pg, TRACKS_AT_ONCE).await?;
        let mut n_forgotten = 0;
        for &(track_id, removed_at) in &tracks {
            while store::upkeep::delete_points(&ctx.pg, track_id, ROWS).await? > 0 {
                if Instant::now() >= deadline {
                    return Ok(());
                }
            }
            store::upkeep::delete_hours(&ctx.pg, track_id).await?;
            latest::forget(ctx, track_id).await;
            if removed_at + WRITERS_FORGET_AFTER < now {
                store::upkeep::forget_track(&ctx.pg, track_id).await?;
                n_forgotten += 1;
            }
        }
        // Those that are not forgotten yet would be the first again.
        if n_forgotten < TRACKS_AT_ONCE || Instant::now() >= deadline {
            return Ok(());
        }
    }
}

fn month_of(at: OffsetDateTime) -> MonthNumber {
    at.year() * 12 + i32::from(u8::from(at.month())) - 1
}

/// Years that no calendar has become the first one.
fn first_day(month: MonthNumber) -> Date {
    let month_of_year = u8::try_from(month.rem_euclid(12) + 1).expect("one of twelve");
    let month_of_year = Month::try_from(month_of_year).expect("one of twelve");
    Date::from_calendar_date(month.div_euclid(12).max(1), month_of_year, 1).expect("every month has a first day")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime};

    #[test]
    fn months_are_counted_across_years() {
        let december = month_of(datetime!(2026-12-31 23:59 UTC));
        assert_eq!(first_day(december), date!(2026 - 12 - 01));
        assert_eq!(first_day(december + 1), date!(2027 - 01 - 01));
        assert_eq!(first_day(december - 24), date!(2024 - 12 - 01));
    }
}
