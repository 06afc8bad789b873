//! What is read as what. Imports by jobs are tested with the worker.

use super::*;
use crate::ids::UserId;
use rstest::rstest;
use time::OffsetDateTime;

fn file(name: &str, content_type: &str) -> File {
    File {
        id: FileId::new(),
        name: name.to_owned(),
        size_bytes: 1,
        sha256: String::new(),
        content_type: content_type.to_owned(),
        owner_id: UserId::new(),
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}

#[rstest]
#[case("points.CSV", "text/plain", Some(Format::Csv))]
#[case("points.ndjson", "application/json", Some(Format::Ndjson))]
#[case("a.b.jsonl", "text/plain", Some(Format::Ndjson))]
#[case("ride.gpx", "text/xml", Some(Format::Gpx))]
#[case("places.geojson", "application/json", Some(Format::Geojson))]
#[case("upload", "text/csv; charset=utf-8", Some(Format::Csv))]
#[case("upload.bin", "application/geo+json", Some(Format::Geojson))]
#[case("points.json", "application/json", None)]
#[case("csv", "text/plain", None)]
fn a_file_says_what_it_is(#[case] name: &str, #[case] content_type: &str, #[case] format: Option<Format>) {
    assert_eq!(Format::of(&file(name, content_type)), format);
}

#[test]
fn what_is_said_goes_before_the_name_and_gpx_needs_a_track() {
    let gpx = file("ride.gpx", "application/gpx+xml");
    let asked = |format, track_id| ImportTracks { file_id: gpx.id, format, track_id };
    assert_eq!(asked(Some(Format::Csv), None).format(&gpx).unwrap(), Format::Csv);
    assert_eq!(asked(None, Some(TrackId::new())).format(&gpx).unwrap(), Format::Gpx);
    assert_eq!(asked(None, None).format(&gpx).unwrap_err().fields[0].pointer, "/payload/track_id");
}

#[test]
fn what_is_told_of_a_refusal_is_short() {
    let reject = Reject::new(3, Error::new(Code::InvalidJson, "ä".repeat(1_000)));
    assert!(reject.detail.len() <= DETAIL_MAX && reject.detail.len() > DETAIL_MAX - 2);
}
