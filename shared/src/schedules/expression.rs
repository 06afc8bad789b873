//! A cron expression on the wall clock of a time zone, and what it does where that clock is put forward or back.
//!
//! As in Vixie cron, what has no `*` in its minutes and hours names times of day. One that is skipped comes at the first moment after
//! the gap, and one that is repeated comes once, the first time that the clock shows it. What has a `*` there is an interval: it goes
//! on with the time that passes.

use crate::{Error, Result};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, ToSpan, Zoned, civil::DateTime, tz::TimeZone};
use time::OffsetDateTime;

/// Wall clock times looked at for one occurrence: an hour may come twice, and have one every second.
const LOOKS_MAX: usize = 4 * 3_600;

/// Years that are looked through, to each side: the 29th of February falls on one weekday every 28 years, 40 where a century has none.
/// A search through all of time would take longer than whoever asks may keep others waiting.
pub(super) const YEARS: i32 = 50;

#[derive(Debug, Clone)]
pub(super) struct Expression {
    cron: Cron,
    zone: TimeZone,
    names_times: bool,
}

impl Expression {
    /// Five fields, or six with seconds in front, or a nickname such as `@daily`; of the [`YEARS`] around `now`.
    pub(super) fn parse(expression: &str, timezone: &str, now: OffsetDateTime) -> Result<Self> {
        let zone = zone(timezone)?;
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| Error::invalid("/cron", "cron", error.to_string()))?;
        let cron = of_years_around(now, expression)?.unwrap_or(cron);
        let names_times = !cron.pattern.minutes.from_wildcard && !cron.pattern.hours.from_wildcard;
        Ok(Self { cron, zone, names_times })
    }

    /// The first occurrence after `at`.
    pub(super) fn after(&self, at: OffsetDateTime) -> Option<OffsetDateTime> {
        let at = zoned(at, &self.zone)?;
        if !self.names_times {
            return instant(self.cron.find_next_occurrence(&at, false).ok()?.timestamp());
        }
        let mut shown = at.datetime();
        for _ in 0..LOOKS_MAX {
            shown = self.cron.find_next_occurrence(&shown, false).ok()?;
            let comes = self.comes(shown)?;
            if comes > at.timestamp() {
                return instant(comes);
            }
        }
        None
    }

    /// The last occurrence that is not after `at`.
    pub(super) fn until(&self, at: OffsetDateTime) -> Option<OffsetDateTime> {
        let at = zoned(at, &self.zone)?;
        if !self.names_times {
            return instant(self.cron.find_previous_occurrence(&at, true).ok()?.timestamp());
        }
        let mut shown = self.cron.find_previous_occurrence(&self.latest_shown(&at)?, true).ok()?;
        for _ in 0..LOOKS_MAX {
            let comes = self.comes(shown)?;
            if comes <= at.timestamp() {
                return instant(comes);
            }
            shown = self.cron.find_previous_occurrence(&shown, false).ok()?;
        }
        None
    }

    /// When the clock shows a time first; of one that it skips, when it would have.
    fn comes(&self, shown: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(shown);
        let is_skipped = matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. });
        let comes = ambiguous.compatible().ok()?;
        if !is_skipped {
            return Some(comes);
        }
        let gap = self.zone.preceding(comes.checked_add(1.second()).ok()?).next()?;
        Some(gap.timestamp())
    }

    /// The latest time that the clock has shown by `at`: when it is put back, it had shown more already.
    fn latest_shown(&self, at: &Zoned) -> Option<DateTime> {
        let ambiguous = self.zone.to_ambiguous_timestamp(at.datetime());
        let (earlier, later) = (ambiguous.earlier().ok()?, ambiguous.later().ok()?);
        at.datetime().checked_add(later.duration_since(earlier)).ok()
    }
}

/// The same with a field of years. Nicknames have none, and come every year.
fn of_years_around(now: OffsetDateTime, expression: &str) -> Result<Option<Cron>> {
    let seconds = match expression.split_whitespace().count() {
        5 => "0 ",
        6 => "",
        _ => return Ok(None),
    };
    let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Required).build();
    let (first, last) = (now.year() - YEARS, now.year() + YEARS);
    parser.parse(&format!("{seconds}{expression} {first}-{last}")).map(Some).map_err(Error::internal)
}

/// The name of a time zone as the database of zones writes it.
pub(super) fn canonical_zone(name: &str) -> Result<String> {
    Ok(zone(name)?.iana_name().unwrap_or(name).to_owned())
}

fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        let name = name.escape_debug();
        Error::invalid("/timezone", "unknown_timezone", format!("`{name}` is no time zone; names are such as `Europe/Berlin` or `UTC`"))
    })
}

fn zoned(at: OffsetDateTime, zone: &TimeZone) -> Option<Zoned> {
    Some(Timestamp::from_nanosecond(at.unix_timestamp_nanos()).ok()?.to_zoned(zone.clone()))
}

fn instant(at: Timestamp) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(at.as_nanosecond()).ok()
}
