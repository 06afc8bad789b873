//! A report as CSV: a row for each bucket of each track.

use super::run::Named;
use crate::{Error, Result, points::HourRow};
use csv::Writer;
use std::borrow::Cow;
use time::format_description::well_known::Rfc3339;

const COLUMNS: [&str; 12] = [
    "track_id",
    "track_name",
    "start",
    "count",
    "min_speed_mps",
    "max_speed_mps",
    "avg_speed_mps",
    "distance_m",
    "west",
    "south",
    "east",
    "north",
];

pub(super) fn header() -> Result<Vec<u8>> {
    let mut csv = Writer::from_writer(Vec::new());
    csv.write_record(COLUMNS).map_err(Error::internal)?;
    csv.into_inner().map_err(|error| Error::internal(error.to_string()))
}

pub(super) fn rows(track: &Named, rows: &[HourRow]) -> Result<Vec<u8>> {
    let mut csv = Writer::from_writer(Vec::new());
    let (id, name) = (track.id.to_string(), harmless(&track.name));
    let number = |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
    for row in rows {
        let start = row.start.format(&Rfc3339).map_err(Error::internal)?;
        csv.write_record([
            id.as_str(),
            &name,
            &start,
            &row.count.unwrap_or_default().to_string(),
            &number(row.speed_min),
            &number(row.speed_max),
            &number(row.avg_speed()),
            &number(row.distance_m),
            &number(row.west),
            &number(row.south),
            &number(row.east),
            &number(row.north),
        ])
        .map_err(Error::internal)?;
    }
    csv.into_inner().map_err(|error| Error::internal(error.to_string()))
}

/// Table programs take text that begins so for a formula, and run it.
fn harmless(text: &str) -> Cow<'_, str> {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        true => Cow::Owned(format!("'{text}")),
        false => Cow::Borrowed(text),
    }
}
