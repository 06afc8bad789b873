//! Finds a job's row by its id, the fast way while the partition of its day is known.

use super::store::{by_day, read};
use crate::{Context, Result, clock::from_unix_ms, ids::JobId};
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
/// `undefined_table`.
const NO_SUCH_TABLE: &str = "42P01";

/// The statement for each day that has a partition.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    days: ArcSwap<Days>,
    is_reading: AtomicBool,
}

#[derive(Debug, Default)]
struct Days {
    sql: HashMap<Date, Arc<str>>,
    read_at: Option<Instant>,
}

pub(super) async fn row_by_id(ctx: &Context, id: JobId) -> Result<Option<read::JobRow>> {
    let Some(sql) = sql_for(ctx, id).await? else { return Ok(read::job_by_id(&ctx.pg, id).await?) };
    match by_day::job_by_lookup(&ctx.pg, &sql, id).await {
        Err(error) if error.as_database_error().is_some_and(|e| e.code().as_deref() == Some(NO_SUCH_TABLE)) => {
            // Retention dropped the day; the next call reads the list anew.
            ctx.jobs.lookups.days.store(Arc::default());
            Ok(read::job_by_id(&ctx.pg, id).await?)
        }
        row => Ok(row?),
    }
}

async fn sql_for(ctx: &Context, id: JobId) -> Result<Option<Arc<str>>> {
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
