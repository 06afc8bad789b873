//! Which days have a partition of ended jobs, and the statement that looks into the live jobs and that partition.

use crate::{Context, Result, clock::from_unix_ms, ids::JobId, jobs::store::by_day};
use arc_swap::ArcSwap;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use time::{Date, OffsetDateTime};

/// How old the list of days may be when an id of another day asks for it.
const FRESH: Duration = Duration::from_secs(60);

/// The statement for each day that has a partition.
#[derive(Debug, Default)]
pub(in crate::jobs) struct Lookups {
    days: ArcSwap<Days>,
    is_reading: AtomicBool,
}

#[derive(Debug, Default)]
struct Days {
    sql: HashMap<Date, Arc<str>>,
    read_at: Option<Instant>,
}

/// The statement for an id; `None` when its day has no partition.
pub(super) async fn sql_for(ctx: &Context, id: JobId) -> Result<Option<Arc<str>>> {
    let Some(day) = day_of(id) else { return Ok(None) };
    let lookups = &ctx.jobs.lookups;
    {
        let days = lookups.days.load();
        if let Some(sql) = days.sql.get(&day) {
            return Ok(Some(Arc::clone(sql)));
        }
        if days.read_at.is_some_and(|at| at.elapsed() < FRESH) || lookups.is_reading.swap(true, Ordering::Relaxed) {
            return Ok(None);
        }
    }
    let _done = Done(&lookups.is_reading);
    let days = read_days(ctx).await?;
    let sql = days.sql.get(&day).cloned();
    lookups.days.store(Arc::new(days));
    Ok(sql)
}

/// Lets the next one read, however this reading ended.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

async fn read_days(ctx: &Context) -> Result<Days> {
    let days = by_day::ended_days(&ctx.pg).await?;
    let sql = days.iter().filter_map(|day| Some((date(day)?, by_day::lookup_sql(day)))).collect();
    Ok(Days { sql, read_at: Some(Instant::now()) })
}

/// Forgets the list: retention dropped one of its days.
pub(super) fn forget(ctx: &Context) {
    ctx.jobs.lookups.days.store(Arc::default());
}

/// The UTC day on which an id was made; ids that are no UUIDv7 give some day or none.
fn day_of(id: JobId) -> Option<Date> {
    let made_at_ms = i64::try_from(id.0.as_u128() >> 80).ok()?;
    from_unix_ms(made_at_ms).map(OffsetDateTime::date)
}

/// `YYYYMMDD`.
fn date(day: &str) -> Option<Date> {
    let number: u32 = day.parse().ok()?;
    let month = u8::try_from(number / 100 % 100).ok()?.try_into().ok()?;
    Date::from_calendar_date(i32::try_from(number / 10_000).ok()?, month, u8::try_from(number % 100).ok()?).ok()
}
