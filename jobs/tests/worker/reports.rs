//! `tracks.report`: a file of what tracks did.

use crate::world::World;
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use shared::{
    Caller, Code, Role, Scope,
    files::{content, manage},
    ids::{FileId, JobId, TrackId, UserId},
    jobs::JobState,
    page::IdPageQuery,
    points::{Point, append::Appending},
    tracks::report::{self, ReportTracks},
};

/// 2026-11-20T10:00:00Z.
const START_US: i64 = 1_795_168_800_000_000;

impl World {
    /// A track with a point every ten minutes of two hours, stored.
    async fn a_track_of_two_hours(&self) -> TrackId {
        let track_id = self.a_track().await;
        let mut appending = Appending::new(&self.ctx, &self.caller);
        for n in 0..12 {
            let (altitude_m, heading_deg, accuracy_m) = (None, None, None);
            let (recorded_at_us, lat, speed_mps) = (START_US + n * 600_000_000, 52.0 + n as f64 / 1_000.0, Some(n as f64));
            let attributes = None;
            appending.add(&Point { track_id, recorded_at_us, lat, lon: 13.0, altitude_m, speed_mps, heading_deg, accuracy_m, attributes });
        }
        appending.send(&self.ctx).await.unwrap();
        self.until_stored().await;
        track_id
    }

    /// The result, and the content of its file.
    async fn report(&self, payload: Value) -> (Value, String) {
        let id = self.submit(json!({"kind": "tracks.report", "payload": payload})).await;
        let job = self.until(id, JobState::Succeeded).await;
        let result: Value = serde_json::from_str(job.result.unwrap().get()).unwrap();
        let file_id: FileId = result["file_id"].as_str().unwrap().parse().unwrap();
        let content = content::open_for_job(&self.ctx, self.caller.user_id, file_id).await.unwrap();
        let bytes: Vec<_> = content.into_stream().try_collect().await.unwrap();
        (result, String::from_utf8(bytes.concat()).unwrap())
    }
}

#[tokio::test]
async fn a_report_is_a_file_of_its_owner() {
    let world = World::new().await;
    let _worker = world.worker(&[]);
    let track = world.a_track_of_two_hours().await;
    let (result, csv) = world.report(json!({"from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z", "name": "buses"})).await;
    assert_eq!((&result["name"], &result["rows"], &result["points"]), (&json!("buses.csv"), &json!(2), &json!(12)));
    assert_eq!(result["size_bytes"], csv.len());
    let rows: Vec<&str> = csv.lines().collect();
    assert!(rows.len() == 3 && rows[1].starts_with(&format!("{track},a track,2026-11-20T10:00:00Z,6,0,5,2.5,")), "{csv}");
    let asked =
        json!({"from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z", "bucket": "day", "format": "html", "track_ids": [track]});
    let (result, html) = world.report(asked).await;
    assert_eq!((&result["name"], &result["rows"]), (&json!("tracks-2026-11-20-2026-11-21.html"), &json!(1)));
    assert!(html.starts_with("<!doctype html>") && html.contains("a track") && html.contains("<svg"), "{html}");
    let file_id = result["file_id"].as_str().unwrap().parse().unwrap();
    let file = manage::get(&world.ctx, &world.caller, file_id).await.unwrap();
    assert_eq!((file.content_type.as_str(), file.owner_id), ("text/html", world.caller.user_id));
}

#[tokio::test]
async fn a_report_that_is_made_again_takes_the_place_of_the_one_before() {
    let world = World::new().await;
    world.a_track().await;
    let asked: ReportTracks = serde_json::from_value(json!({"last_buckets": 24, "format": "html"})).unwrap();
    let job_id = JobId::new();
    for _ in 0..2 {
        let report = report::run::run(&world.ctx, world.caller.user_id, job_id, &asked, |_, _| {}).await.unwrap();
        let files = manage::list(&world.ctx, &world.caller, &IdPageQuery::default()).await.unwrap().items;
        assert_eq!(files.iter().map(|file| file.id).collect::<Vec<_>>(), [report.file_id]);
        assert_eq!((report.tracks, report.rows), (1, 0));
    }
}

#[tokio::test]
async fn what_no_report_can_be_of_is_refused_at_the_submit() {
    let world = World::new().await;
    let track = world.a_track().await;
    let body = |payload: Value| json!({"kind": "tracks.report", "payload": payload});
    for (payload, pointer) in [
        (json!({}), "/payload/from"),
        (json!({"from": "yesterday"}), "/payload/from"),
        (json!({"last_buckets": 0}), "/payload/last_buckets"),
        (json!([]), "/payload"),
        (json!({"from": "2026-01-01T00:00:00Z", "format": "pdf"}), "/payload/format"),
        (json!({"from": "2000-01-01T00:00:00Z"}), "/payload/from"),
        (
            json!({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "track_ids": [track, TrackId::new()]}),
            "/payload/track_ids/1",
        ),
    ] {
        let error = world.refused(body(payload.clone())).await;
        assert_eq!((error.code, error.fields[0].pointer.as_str()), (Code::ValidationFailed, pointer), "{payload}");
    }
    let body = body(json!({"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z", "track_ids": [track]}));
    let stranger = Caller::new(UserId::new(), Role::User, Role::User.scopes(), world.caller.credential);
    assert_eq!(world.refused_to(&stranger, body.clone()).await.fields[0].pointer, "/payload/track_ids/0");
    for missing in [Scope::TracksRead, Scope::FilesWrite] {
        let scopes = Role::User.scopes().iter().filter(|scope| *scope != missing).collect();
        let limited = Caller { scopes, ..world.caller };
        assert_eq!(world.refused_to(&limited, body.clone()).await.code, Code::InsufficientScope, "{missing}");
    }
}
