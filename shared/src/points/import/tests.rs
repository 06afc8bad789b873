//! What is read as what. Imports by jobs are tested with the worker.

use super::{parsing::Batch, run::Appender, *};
use crate::{
    ids::UserId,
    points::{append::Appending, depth, forms::json},
    testing::{RedisServer, TestStores},
};
use rstest::rstest;
use std::time::Duration;
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

#[tokio::test]
async fn an_import_that_finds_no_room_does_not_wait_for_ever_for_a_redis_that_is_away() {
    let mut redis = RedisServer::start().await;
    let mut stores = TestStores::create().await;
    stores.use_redis(&redis);
    let ctx = stores.context(&[("INGEST_MAX_DEPTH", "10")]);
    let mut appending = Appending::in_name_of(&ctx, UserId::new(), false);
    let point = format!(r#"{{"track_id":"{}","recorded_at":"2026-11-21T10:00:00Z","lat":1,"lon":1}}"#, TrackId::new());
    appending.add(&json::point(point.as_bytes(), None).unwrap());
    // As full as it can be, as far as this process knows.
    ctx.points.depth.add(UserId::new(), 1_000);
    redis.kill();
    let quiet = |_: f64, _: &str| {};
    let mut appender = Appender { ctx: &ctx, size_bytes: 1, n_accepted: 0, patience: Duration::from_millis(300), progress: &quiet };
    let import = appender.append(Batch { appending, n_bytes: 1, n_rejected: 0 });
    // Others look as well, and so the import hears nothing of its own.
    let others = async {
        loop {
            let _ = depth::check(&ctx, UserId::new()).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! { ended = import => ended, () = others => unreachable!("it has no end") }
    });
    assert_eq!(ended.await.expect("it ends").unwrap_err().code, Code::RedisUnavailable);
}
