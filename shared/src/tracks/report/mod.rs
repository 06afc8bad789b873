//! The job kind `tracks.report`: the hours or days of some tracks as a file, a table in CSV or a page in HTML.
//!
//! What it costs is bounded before it begins: tracks, buckets and rows have a limit, and it reads what is kept of hours and never a point.
//! In reading order: this file (what is asked, and what it came to), [`run`] (one attempt), `table` (CSV), `figures` (sums for a page),
//! `page` (HTML), `chart` (SVG).

mod chart;
mod figures;
mod page;
pub mod run;
mod table;
#[cfg(test)]
mod tests;

use super::store;
use crate::{
    Caller, Context, Error, Result,
    ids::{FileId, TrackId},
    json_words,
    points::stats::Bucket,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime, macros::datetime};
use uuid::Uuid;

pub const KIND: &str = "tracks.report";

/// Tracks of one report.
const TRACKS_MAX: usize = 1_000;
/// Buckets from the first to the last: more than a year of hours.
const BUCKETS_MAX: i64 = 10_000;
/// Rows of one table, about 30 MB.
const ROWS_MAX: u64 = 200_000;
/// Longest name of the file, without its ending.
const NAME_MAX: usize = 100;

/// The payload.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportTracks {
    /// `None` takes all of the owner's own.
    pub track_ids: Option<Vec<TrackId>>,
    /// Hours that begin at this time or later. Either this or `last_buckets` must be there.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub from: Option<OffsetDateTime>,
    /// So many whole hours or days before the one in which the job runs: what a schedule asks for again and again.
    pub last_buckets: Option<u32>,
    /// Hours that begin before this time; `None` is when the job runs. Only with `from`.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub to: Option<OffsetDateTime>,
    #[serde(default)]
    pub bucket: Bucket,
    #[serde(default)]
    pub format: Format,
    /// What the file is called; its ending is that of the format, whatever stands here. `None` is "tracks" with the range.
    pub name: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A row for each bucket of each track.
    #[default]
    Csv,
    /// A page with charts and a table of the tracks, for people.
    Html,
}

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Reported {
    pub file_id: FileId,
    pub name: String,
    pub size_bytes: u64,
    pub tracks: usize,
    /// Buckets of tracks that had points.
    pub rows: u64,
    pub points: i64,
}

/// The time that a report is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: OffsetDateTime,
    to: OffsetDateTime,
    bucket: Bucket,
}

/// Instants that texts and PostgreSQL both know, wherever on earth they are told.
const INSTANTS: std::ops::RangeInclusive<OffsetDateTime> = datetime!(1970-01-01 0:00 UTC)..=datetime!(9999-12-31 23:59:59.999_999 UTC);

impl Span {
    /// The last whole buckets before `now`.
    fn last(n_buckets: i32, bucket: Bucket, now: OffsetDateTime) -> Self {
        let present = Self { from: now, to: now, bucket };
        let to = present.start_of(now);
        Self { from: to - present.bucket_length() * n_buckets, to, bucket }
    }

    fn bucket_length(self) -> Duration {
        match self.bucket {
            Bucket::Hour => Duration::HOUR,
            Bucket::Day => Duration::DAY,
        }
    }

    /// Where the bucket of an instant begins.
    fn start_of(self, at: OffsetDateTime) -> OffsetDateTime {
        let length_s = self.bucket_length().whole_seconds();
        let start_s = at.unix_timestamp().div_euclid(length_s) * length_s;
        OffsetDateTime::from_unix_timestamp(start_s).expect("it is within a day before an instant of 1970 or later")
    }

    fn n_buckets(self) -> i64 {
        let last = self.to - Duration::MICROSECOND;
        (self.start_of(last) - self.start_of(self.from)).whole_seconds() / self.bucket_length().whole_seconds() + 1
    }

    /// The place of a bucket among those of the span.
    fn index_of(self, start: OffsetDateTime) -> i64 {
        (start - self.start_of(self.from)).whole_seconds() / self.bucket_length().whole_seconds()
    }
}

impl ReportTracks {
    fn span(&self, now: OffsetDateTime) -> Result<Span> {
        let refused = |field: &str, code: &str, detail: String| Error::invalid(format!("/payload/{field}"), code, detail);
        match (self.from, self.last_buckets, self.to) {
            (Some(from), None, to) => {
                let span = Span { from, to: to.unwrap_or(now), bucket: self.bucket };
                if !INSTANTS.contains(&span.from) || !INSTANTS.contains(&span.to) || span.from >= span.to {
                    let detail = "must be before `to`, or before now, and both in years 1970 to 9999";
                    return Err(refused("from", "range", detail.to_owned()));
                }
                if span.n_buckets() > BUCKETS_MAX {
                    let detail = format!("and `to` may have {BUCKETS_MAX} buckets between them; this are {}", span.n_buckets());
                    return Err(refused("from", "range", detail));
                }
                Ok(span)
            }
            (None, Some(n_buckets), None) => match i32::try_from(n_buckets).ok().filter(|n| (1..=BUCKETS_MAX).contains(&i64::from(*n))) {
                Some(n_buckets) => Ok(Span::last(n_buckets, self.bucket, now)),
                None => Err(refused("last_buckets", "range", format!("must be 1 to {BUCKETS_MAX}"))),
            },
            (Some(_), Some(_), _) => Err(refused("last_buckets", "exclusive", "must not be there beside `from`".to_owned())),
            (None, Some(_), Some(_)) => Err(refused("to", "exclusive", "goes with `from` alone, not with `last_buckets`".to_owned())),
            (None, None, _) => Err(refused("from", "required", "or `last_buckets` must be there".to_owned())),
        }
    }

    fn check(&self, now: OffsetDateTime) -> Result<()> {
        if self.track_ids.as_ref().is_some_and(|ids| ids.is_empty() || ids.len() > TRACKS_MAX) {
            return Err(Error::invalid("/payload/track_ids", "length", format!("must name 1 to {TRACKS_MAX} tracks")));
        }
        if self.name.as_ref().is_some_and(|name| name.is_empty() || name.chars().count() > NAME_MAX || name.contains(char::is_control)) {
            return Err(Error::invalid("/payload/name", "length", format!("must be one line of 1 to {NAME_MAX} characters")));
        }
        self.span(now).map(drop)
    }

    fn ids(&self) -> Option<Vec<Uuid>> {
        self.track_ids.as_ref().map(|ids| ids.iter().map(|id| id.0).collect())
    }

    fn file_name(&self, span: Span) -> String {
        let (from, to) = (span.from.date(), span.to.date());
        let asked = self.name.as_deref().map(without_ending).filter(|name| !name.is_empty());
        let name = asked.map_or_else(|| format!("tracks-{from}-{to}"), str::to_owned);
        match self.format {
            Format::Csv => format!("{name}.csv"),
            Format::Html => format!("{name}.html"),
        }
    }
}

/// The name without the ending of a report, which it gets in any case.
fn without_ending(name: &str) -> &str {
    match name.trim().rsplit_once('.') {
        Some((stem, ending)) if ["csv", "html", "htm"].contains(&ending.to_ascii_lowercase().as_str()) => without_ending(stem),
        Some(_) | None => name.trim(),
    }
}

/// Refuses a submit whose payload is none, or names tracks that the caller may not read.
pub(crate) async fn check(ctx: &Context, caller: &Caller, payload: Option<&RawValue>) -> Result<()> {
    let payload = payload.ok_or_else(|| Error::invalid("/payload", "required", "must say from when the report is"))?;
    let asked: ReportTracks = json_words::parse_at(payload.get(), "/payload")?;
    asked.check(ctx.clock.now())?;
    let Some(ids) = asked.ids() else { return Ok(()) };
    let readable = store::names(ctx.by_values(), caller.owner_filter(), Some(&ids), TRACKS_MAX).await?;
    match ids.iter().position(|id| !readable.iter().any(|(readable, _)| readable.0 == *id)) {
        Some(index) => {
            Err(Error::invalid(format!("/payload/track_ids/{index}"), "unknown_track", "names no track, or one that is not yours"))
        }
        None => Ok(()),
    }
}
