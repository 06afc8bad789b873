//! `tracks.import`: points of files, whatever the files hold and whatever happens meanwhile.

use crate::world::World;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shared::{
    Caller, Code, Role, Scope,
    accounts::Origin,
    files::{
        manage,
        writing::{NewFile, Writer},
    },
    ids::{FileId, JobId, TrackId, UserId},
    jobs::{Job, JobState, cancel},
};
use std::fmt::Write as _;

/// Nothing is stored while it runs.
const WITHOUT_INGEST: (&str, &str) = ("WORKER_INGEST", "off");

impl World {
    pub(crate) async fn a_file(&self, name: &str, content: &str) -> FileId {
        let new = NewFile { owner_id: self.caller.user_id, name, content_type: None, size_hint: None, made_by: None };
        let mut writer = Writer::open(&self.ctx, new).await.unwrap();
        writer.write(content.as_bytes()).await.unwrap();
        writer.finish().await.unwrap().id
    }

    async fn import(&self, name: &str, content: &str, track_id: TrackId) -> Job {
        let file_id = self.a_file(name, content).await;
        let id = self.submit(json!({"kind": "tracks.import", "payload": {"file_id": file_id, "track_id": track_id}})).await;
        self.until_job(id, "at its end", |job| job.state.is_ended()).await
    }

    /// A job that imports `n_points` and waits for room, in a worker that stores nothing.
    async fn import_that_waits(&self, n_points: usize) -> (JobId, FileId) {
        let track_id = self.a_track().await;
        let file_id = self.a_file("points.ndjson", &lines(track_id, n_points)).await;
        let id = self.submit(json!({"kind": "tracks.import", "payload": {"file_id": file_id}})).await;
        let waits = |job: &Job| {
            let message = job.progress.as_ref().and_then(|progress| progress.message.as_deref()).unwrap_or_default();
            message.contains("waits for room")
        };
        self.until_job(id, "waiting for room", waits).await;
        (id, file_id)
    }
}

fn line(track_id: TrackId, n: usize) -> String {
    let (hour, minute, second) = (n / 3_600 % 24, n / 60 % 60, n % 60);
    format!(r#"{{"track_id":"{track_id}","recorded_at":"2026-11-20T{hour:02}:{minute:02}:{second:02}Z","lat":52.5,"lon":13.4}}"#)
}

fn lines(track_id: TrackId, n_points: usize) -> String {
    (0..n_points).fold(String::new(), |mut text, n| {
        writeln!(text, "{}", line(track_id, n)).unwrap();
        text
    })
}

fn result(job: &Job) -> Value {
    assert_eq!(job.state, JobState::Succeeded, "{job:?}");
    serde_json::from_str(job.result.as_ref().unwrap().get()).unwrap()
}

fn feature(second: usize, lat: f64) -> Value {
    let (geometry, time) = (json!({"type": "Point", "coordinates": [13.4, lat]}), format!("2026-11-21T13:00:{second:02}Z"));
    json!({"type": "Feature", "geometry": geometry, "properties": {"time": time}})
}

#[tokio::test]
async fn points_of_every_form_are_stored() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let track = world.a_track().await;
    let gpx_point = |lat, second| format!("<trkpt lat=\"{lat}\" lon=\"13\"><time>2026-11-21T10:00:0{second}Z</time></trkpt>");
    let gpx = format!("<gpx><trk><trkseg>{}{}{}</trkseg></trk></gpx>", gpx_point(52, 1), gpx_point(91, 2), gpx_point(53, 3));
    let geojson = json!({"type": "FeatureCollection", "features": [feature(1, 52.0), feature(2, 91.0), feature(3, 53.0)]});
    let csv = "recorded_at,lat,lon\n2026-11-21T11:00:01Z,52,13\n2026-11-21T11:00:02Z,91,13\n2026-11-21T11:00:03Z,53,13\n";
    let ndjson = format!("{}\n\n{{\"lat\":\n{}\n", line(track, 1), line(track, 2));
    for (name, content) in [("a.gpx", gpx), ("a.geojson", geojson.to_string()), ("a.csv", csv.to_owned()), ("a.ndjson", ndjson)] {
        let job = world.import(name, &content, track).await;
        let result = result(&job);
        assert_eq!((&result["accepted"], &result["rejected"], &result["rejects"][0]["index"]), (&json!(2), &json!(1), &json!(1)), "{name}");
        assert_eq!(result["format"], name[2..], "{name}");
    }
    world.until_stored().await;
    assert_eq!(world.count_of("points").await, 8);
}

#[tokio::test]
async fn what_is_broken_in_a_file_is_counted_and_the_first_of_it_listed() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let track = world.a_track().await;
    let content = (0..3_000)
        .fold(String::new(), |text, n| if n % 3 == 0 { text + &line(track, n)[..40] + "\n" } else { text + &line(track, n) + "\n" });
    let again = world.import("points.ndjson", &content, track).await;
    let job = world.import("points.ndjson", &content, track).await;
    let result = result(&job);
    assert_eq!((&result["accepted"], &result["rejected"]), (&json!(2_000), &json!(1_000)), "{again:?}");
    assert_eq!(result["rejects"].as_array().unwrap().len(), 50);
    assert_eq!((&result["rejects"][49]["index"], &result["rejects"][49]["code"]), (&json!(147), &json!("invalid_json")));
    world.until_stored().await;
    assert_eq!((world.count_of("points").await, world.count_of("points_dead").await), (2_000, 0), "the second import changed nothing");
}

#[tokio::test]
async fn a_file_that_is_not_what_it_is_said_to_be_is_a_clear_error() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let track = world.a_track().await;
    let bomb = r#"<!DOCTYPE gpx [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><gpx><trk><name>&b;</name></trk></gpx>"#;
    let half = format!("<gpx><trk><trkseg>{}", "<trkpt lat=\"1\" lon=\"1\"><time>2026-11-21T10:00:01Z</time></trkpt>".repeat(3));
    let endless = format!("recorded_at,lat,lon\n\"{}", "2026-11-21T10:00:01Z,1,1\n".repeat(10_000));
    let cases = [
        ("nothing.csv", "recorded_at,lat,lon\n", "validation_failed", "holds no points"),
        ("bomb.gpx", bomb, "invalid_gpx", "document type"),
        ("deep.gpx", &format!("<gpx>{}", "<a>".repeat(100)), "invalid_gpx", "nested deeper"),
        ("half.gpx", &half, "invalid_gpx", "3 points before it were accepted"),
        ("endless.csv", &endless, "invalid_csv", "longer than"),
        ("other.csv", "a,b\n1,2\n", "invalid_csv", "must name the columns"),
        ("really.ndjson", &"2026-11-21T10:00:00Z,1,2\n".repeat(5_000), "validation_failed", "None of the first 1000 items"),
        ("really.geojson", &lines(track, 10), "invalid_json", "its `type` must be"),
        ("cut.geojson", r#"{"type":"FeatureCollection","features":[{"#, "invalid_json", "ends too early"),
        ("open.csv", "recorded_at,lat,lon\n2026-11-21T10:00:01Z,1,1\n\"2026-11-21T10:00:02Z,1,1\n", "invalid_csv", "a quote in line 3"),
        ("empty.gpx", "<gpx/>", "validation_failed", "holds no points"),
    ];
    for (name, content, code, told) in cases {
        let job = world.import(name, content, track).await;
        let error = job.error.unwrap();
        assert_eq!((job.state, error.code.as_str(), job.attempt), (JobState::Dead, code, 1), "{name}: {}", error.message);
        assert!(error.message.contains(told), "{name}: {}", error.message);
    }
}

#[tokio::test]
async fn what_cannot_be_imported_is_refused_at_the_submit() {
    let world = World::new().await;
    let track = world.a_track().await;
    let (points, picture) = (world.a_file("points.csv", "lat\n").await, world.a_file("picture", "no points\n").await);
    let refused = async |payload: Value, pointer: &str| {
        let error = world.refused(json!({"kind": "tracks.import", "payload": payload})).await;
        assert_eq!((error.code, error.fields[0].pointer.as_str()), (Code::ValidationFailed, pointer), "{payload}");
    };
    refused(json!({}), "/payload/file_id").await;
    refused(json!({"file_id": points, "colour": "red"}), "/payload/colour").await;
    refused(json!({"file_id": points, "format": "kml"}), "/payload/format").await;
    refused(json!({"file_id": FileId::new()}), "/payload/file_id").await;
    refused(json!({"file_id": picture}), "/payload/format").await;
    refused(json!({"file_id": picture, "format": "gpx"}), "/payload/track_id").await;
    refused(json!({"file_id": points, "track_id": TrackId::new()}), "/payload/track_id").await;
    let body = json!({"kind": "tracks.import", "payload": {"file_id": points, "track_id": track}});
    let stranger = Caller::new(UserId::new(), Role::User, Role::User.scopes(), world.caller.credential);
    assert_eq!(world.refused_to(&stranger, body.clone()).await.fields[0].pointer, "/payload/file_id");
    for missing in [Scope::FilesRead, Scope::TracksWrite] {
        let scopes = Role::User.scopes().iter().filter(|scope| *scope != missing).collect();
        let limited = Caller { scopes, ..world.caller };
        assert_eq!(world.refused_to(&limited, body.clone()).await.code, Code::InsufficientScope, "{missing}");
    }
}

#[tokio::test]
async fn an_import_waits_while_too_many_points_wait_and_a_worker_that_dies_loses_none() {
    let world = World::with(&[("INGEST_MAX_DEPTH", "3000")]).await;
    let worker = world.worker(&[WITHOUT_INGEST]);
    let (id, file_id) = world.import_that_waits(20_000).await;
    // The content is open: that its file is deleted meanwhile is nothing to it, but the next attempt would not find it.
    worker.signal(Signal::SIGKILL);
    let _worker = world.worker(&[]);
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!((&result(&job)["accepted"], job.attempt > 1), (&json!(20_000), true));
    world.until_stored().await;
    assert_eq!(world.count_of("points").await, 20_000, "{file_id}");
}

#[tokio::test]
async fn an_import_that_waits_is_cancelled_at_once() {
    let world = World::with(&[("INGEST_MAX_DEPTH", "3000")]).await;
    let _worker = world.worker(&[WITHOUT_INGEST]);
    let (id, _) = world.import_that_waits(20_000).await;
    cancel::cancel(&world.ctx, &world.caller, id).await.unwrap();
    world.until(id, JobState::Cancelled).await;
}

#[tokio::test]
async fn a_file_that_is_deleted_meanwhile_is_read_to_its_end_and_never_again() {
    let world = World::with(&[("INGEST_MAX_DEPTH", "3000")]).await;
    let worker = world.worker(&[WITHOUT_INGEST]);
    let (id, file_id) = world.import_that_waits(20_000).await;
    manage::delete(&world.ctx, &world.caller, file_id, &Origin::default()).await.unwrap();
    let _storing = world.worker(&[("WORKER_CONCURRENCY", "1"), ("WORKER_QUEUES", "none-of-these")]);
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!(result(&job)["accepted"], 20_000);
    drop(worker);
    let file_id = world.a_file("points.csv", "lat\n").await;
    let late = world.submit(json!({"kind": "tracks.import", "payload": {"file_id": file_id}, "delay_ms": 300})).await;
    manage::delete(&world.ctx, &world.caller, file_id, &Origin::default()).await.unwrap();
    let _worker = world.worker(&[]);
    assert_eq!(world.until(late, JobState::Dead).await.error.unwrap().code, "not_found");
}

#[tokio::test]
async fn a_file_that_names_tracks_of_others_changes_none_of_them_whoever_imports_it() {
    let world = World::new().await;
    let track = world.a_track().await;
    let other = UserId::new();
    sqlx::query(
        "WITH other AS (INSERT INTO users (id, email, password_hash, role, created_at, updated_at)
            VALUES ($1, 'c@d', '', 'user', now(), now()) RETURNING id)
        UPDATE tracks SET owner_id = other.id FROM other",
    )
    .bind(other.0)
    .execute(&world.ctx.pg)
    .await
    .unwrap();
    let _worker = world.worker(&[]);
    let file_id = world.a_file("points.ndjson", &lines(track, 3)).await;
    let import = async |payload: Value| {
        let id = world.submit(json!({"kind": "tracks.import", "payload": payload})).await;
        let job = world.until_job(id, "at its end", |job| job.state.is_ended()).await;
        assert_eq!(result(&job)["accepted"], 3);
        world.until_stored().await;
        (world.count_of("points").await, world.count_of("points_dead").await)
    };
    assert_eq!(import(json!({"file_id": file_id})).await, (0, 3), "nobody asked whether the operator's key may");
    assert_eq!(import(json!({"file_id": file_id, "track_id": track})).await, (3, 3), "which was asked of the track that is named");
}
