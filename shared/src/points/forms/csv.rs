//! Points in CSV: a header with the names that they have in JSON, in any order, and a record for each point. An empty field is an absent one.

use super::{
    Sink, invalid,
    meter::{Meter, Metered},
    quotes::{Quoted, Quotes},
};
use crate::{
    Code, Error, Result,
    ids::TrackId,
    points::{Point, RawPoint, check::Text},
};
use csv::{ReaderBuilder, StringRecord, Trim};
use std::{borrow::Cow, io::Read};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    TrackId,
    RecordedAt,
    Lat,
    Lon,
    AltitudeM,
    SpeedMps,
    HeadingDeg,
    AccuracyM,
    Attributes,
}

const COLUMNS: [(&str, Column); 9] = [
    ("track_id", Column::TrackId),
    ("recorded_at", Column::RecordedAt),
    ("lat", Column::Lat),
    ("lon", Column::Lon),
    ("altitude_m", Column::AltitudeM),
    ("speed_mps", Column::SpeedMps),
    ("heading_deg", Column::HeadingDeg),
    ("accuracy_m", Column::AccuracyM),
    ("attributes", Column::Attributes),
];

/// Longest record: a quote that is never closed would make one of all the rest.
const RECORD_MAX: usize = 64 << 10;

/// Each record behind the header. A header with a name that is unknown, or there twice, is an error.
pub fn each(source: impl Read, of_track: Option<TrackId>, sink: &mut impl Sink) -> Result<()> {
    let (meter, quotes) = (Meter::new(RECORD_MAX), Quotes::default());
    let broken = |error: &csv::Error| broken(&meter.why().unwrap_or_else(|| error.to_string()));
    // Records with too few or too many fields are judged one by one.
    let mut reader = ReaderBuilder::new().flexible(true).trim(Trim::All).from_reader(Quoted::new(Metered::new(source, &meter), &quotes));
    let header = reader.headers().map_err(|error| broken(&error))?;
    if let Some(line) = quotes.left_open() {
        return Err(never_closed(line));
    }
    let columns = columns(header)?;
    let mut record = StringRecord::new();
    loop {
        meter.reset();
        let read = reader.read_record(&mut record);
        // The reader takes the end of all for the end of a quote, and the record for a whole one.
        if let Some(line) = quotes.left_open() {
            return Err(never_closed(line));
        }
        match read {
            Ok(true) => sink.take(point(&record, &columns, of_track))?,
            Ok(false) => return Ok(()),
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                sink.take(Err(Error::new(Code::InvalidText, "The record is not UTF-8.")))?;
            }
            Err(error) => return Err(broken(&error)),
        }
    }
}

fn columns(header: &StringRecord) -> Result<Vec<Column>> {
    let mut columns = Vec::with_capacity(header.len());
    for name in header {
        // A table program may have put its mark before the first name.
        let name = name.trim_start_matches('\u{feff}');
        let known = COLUMNS.iter().find(|(known, _)| *known == name).map(|(_, column)| *column);
        match known.filter(|column| !columns.contains(column)) {
            Some(column) => columns.push(column),
            None => {
                let names = COLUMNS.map(|(name, _)| name).join(", ");
                let detail = format!("The first line must name the columns, each once: some of {names}; it has `{}`.", name.escape_debug());
                return Err(Error::new(Code::InvalidCsv, detail));
            }
        }
    }
    Ok(columns)
}

fn point<'a>(record: &'a StringRecord, columns: &[Column], of_track: Option<TrackId>) -> Result<Point<'a>> {
    if record.len() != columns.len() {
        return Err(Error::new(Code::InvalidCsv, format!("The record has {} fields, the header {}.", record.len(), columns.len())));
    }
    let mut raw = RawPoint::default();
    for (column, text) in columns.iter().zip(record).filter(|(_, text)| !text.is_empty()) {
        match column {
            Column::TrackId => raw.track_id = Some(text.parse().map_err(|_| invalid("track_id", "uuid", "is not a UUID"))?),
            Column::RecordedAt => raw.recorded_at = Some(Text(Cow::Borrowed(text))),
            Column::Lat => raw.lat = number("lat", text)?,
            Column::Lon => raw.lon = number("lon", text)?,
            Column::AltitudeM => raw.altitude_m = number("altitude_m", text)?,
            Column::SpeedMps => raw.speed_mps = number("speed_mps", text)?,
            Column::HeadingDeg => raw.heading_deg = number("heading_deg", text)?,
            Column::AccuracyM => raw.accuracy_m = number("accuracy_m", text)?,
            Column::Attributes => {
                raw.attributes = Some(serde_json::from_str(text).map_err(|_| invalid("attributes", "json", "is not JSON"))?);
            }
        }
    }
    raw.check(of_track)
}

fn number(name: &str, text: &str) -> Result<Option<f64>> {
    text.parse().map(Some).map_err(|_| invalid(name, "number", "is not a number"))
}

fn never_closed(line: u64) -> Error {
    broken(&format!("a quote in line {line} is never closed"))
}

fn broken(why: &str) -> Error {
    Error::new(Code::InvalidCsv, format!("The body is not the CSV that was asked for: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACK: TrackId = TrackId(uuid::Uuid::from_u128(7));

    /// `lat` of each point, or the code of what is wrong with it.
    fn read(csv: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut sink = |point: Result<Point<'_>>| {
            found.push(point.map_or_else(|error| error.code.to_string(), |point| point.lat.to_string()));
            Ok(())
        };
        each(csv.as_bytes(), Some(TRACK), &mut sink)?;
        Ok(found)
    }

    #[test]
    fn columns_are_in_any_order_and_each_record_is_judged_by_itself() {
        let csv = "\u{feff}lon, lat,recorded_at,attributes,speed_mps\r\n1,2,2026-11-21T10:00:00Z,\"{\"\"a\"\":1}\",\n\
                   1,NaN,2026-11-21T10:00:00Z,,\n1,x,2026-11-21T10:00:00Z,,\n1,3,2026-11-21T10:00:00Z\n1,4,2026-11-21T10:00:00Z,,7\n";
        assert_eq!(read(csv).unwrap(), ["2", "validation_failed", "validation_failed", "invalid_csv", "4"]);
    }

    #[test]
    fn a_quote_that_is_never_closed_ends_the_reading_early() {
        let csv = format!("lat,lon,recorded_at\n1,1,2026-11-21T10:00:00Z\n\"{}", "1,1,1\n".repeat(100_000));
        let (mut n_found, mut rest) = (0, csv.as_bytes());
        let mut sink = |point: Result<Point<'_>>| {
            n_found += 1;
            point.map(drop)
        };
        assert_eq!(each(&mut rest, Some(TRACK), &mut sink).unwrap_err().code, Code::InvalidCsv);
        assert!(n_found == 1 && csv.len() - rest.len() < 2 * RECORD_MAX, "{} bytes are left", rest.len());
    }

    #[test]
    fn a_quote_that_is_open_at_the_end_is_told_with_its_line() {
        let good = "lat,lon,recorded_at,attributes\n1,1,2026-11-21T10:00:00Z,\"{\"\"a\"\":\n1}\"\n";
        assert_eq!(read(good).unwrap(), ["1"]);
        for (rest, line) in [("2,1,2026-11-21T10:00:00Z,\"", 4), ("2,1,2026-11-21T10:00:00Z,\n2,1,\"2026-11-21T10:00:00Z\n\n", 5)] {
            let (mut n_found, csv) = (0, format!("{good}{rest}"));
            let mut sink = |point: Result<Point<'_>>| {
                n_found += 1;
                point.map(drop)
            };
            let error = each(csv.as_bytes(), Some(TRACK), &mut sink).unwrap_err();
            assert!(error.code == Code::InvalidCsv && error.detail.contains(&format!("line {line} ")), "{error}");
            assert_eq!(n_found, line - 3, "the record that it is in is none");
        }
        assert!(read("lat,lon,\"recorded_at").unwrap_err().detail.contains("line 1 "));
    }

    #[test]
    fn a_header_that_names_no_fields_is_an_error() {
        for header in ["lat,lat\n", "lat,colour\n", "1,2,3\n"] {
            assert_eq!(read(header).unwrap_err().code, Code::InvalidCsv, "{header}");
        }
    }
}
