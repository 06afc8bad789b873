//! `/tracks` and `/points`: statuses, forms and refusals; what becomes of accepted points is tested beside the rules.

use crate::{
    auth::{register, token},
    jobs::World,
    support::{send, send_for_problem},
};
use reqwest::{Method, RequestBuilder, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};
use shared::points::process;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const AT: &str = "2026-11-21T10:00:00Z";

impl World {
    async fn track(&self) -> String {
        let (status, track) = send(self.post("/tracks").json(&json!({"name": "Bus 7"}))).await;
        assert_eq!(status, StatusCode::CREATED, "{track}");
        track["id"].as_str().unwrap().to_owned()
    }

    fn send_as(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.post(path).header("content-type", content_type).body(body)
    }

    /// Stores what was accepted, until the track has `n` points.
    async fn until_stored(&self, track: &str, n: usize) -> Value {
        let ctx = &self.app.state.ctx;
        let stop = CancellationToken::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        let (_, items) = tokio::join!(process::run(ctx, "test", &stop), async {
            loop {
                let items = send(self.get(&format!("/tracks/{track}/points?order=asc&limit=1000"))).await.1["items"].take();
                if items.as_array().unwrap().len() >= n {
                    stop.cancel();
                    return items;
                }
                assert!(Instant::now() < deadline, "not stored: {items}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        items
    }
}

fn point(track: &str, second: u32) -> Value {
    json!({"track_id": track, "recorded_at": format!("2026-11-21T10:00:{second:02}Z"), "lat": 52.5, "lon": 13.4})
}

#[tokio::test]
async fn a_track_is_made_shown_changed_and_deleted() {
    let world = World::new().await;
    let new = json!({"name": "Bus 7", "external_id": "bus-7", "attributes": {"line": "M10"}});
    let (status, made) = send(world.post("/tracks").json(&new).header("idempotency-key", "once")).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(send(world.post("/tracks").json(&new).header("idempotency-key", "once")).await.1["id"], made["id"]);
    assert_eq!(send_for_problem(world.post("/tracks").json(&new)).await, (409, "conflict".to_owned()));
    let path = format!("/tracks/{}", made["id"].as_str().unwrap());
    assert_eq!(send(world.get(&path)).await.1, made);
    let on = |method: Method| world.app.request(method, &format!("/api/v1{path}")).bearer_auth(token(&world.ada));
    let (_, patched) = send(on(Method::PATCH).json(&json!({"name": "Bus 8"}))).await;
    assert_eq!((&patched["name"], &patched["external_id"]), (&json!("Bus 8"), &json!("bus-7")));
    let stale = on(Method::PATCH).json(&json!({"name": "x"})).header("if-match", "\"stale\"");
    assert_eq!(send_for_problem(stale).await, (412, "precondition_failed".to_owned()));
    assert_eq!(send(world.get("/tracks?external_id=bus-7")).await.1["items"][0]["id"], made["id"]);
    assert_eq!(send(world.get("/tracks?external_id=bus-9")).await.1["items"], json!([]));
    assert_eq!(send_for_problem(world.get(&format!("{path}/latest"))).await, (404, "not_found".to_owned()));
    for wrong in [json!({"name": "a\nb"}), json!({"name": "\u{7f}"}), json!({"external_id": "\t"}), json!({"name": ""})] {
        assert_eq!(send_for_problem(on(Method::PATCH).json(&wrong)).await, (422, "validation_failed".to_owned()));
        assert_eq!(send_for_problem(world.post("/tracks").json(&wrong)).await.0, if wrong["name"].is_null() { 400 } else { 422 });
    }
    assert_eq!(send(on(Method::DELETE)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(send_for_problem(world.get(&path)).await, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn each_form_is_accepted_and_read_back() {
    let world = World::new().await;
    let track = world.track().await;
    let own = format!("/tracks/{track}/points");
    let (status, answer) = send(world.post("/points").json(&point(&track, 0))).await;
    assert_eq!((status, answer), (StatusCode::ACCEPTED, json!({"accepted": 1, "rejected": []})));
    let (status, answer) = send(world.post("/points").json(&json!({"points": [point(&track, 1), point(&track, 2)]}))).await;
    assert_eq!((status, &answer["accepted"]), (StatusCode::MULTI_STATUS, &json!(2)));
    let lines =
        format!("{{\"recorded_at\":\"2026-11-21T10:00:03Z\",\"lat\":1,\"lon\":2,\"attributes\":{{\"a\":1}}}}\n\n{}", point(&track, 4));
    let (status, answer) = send(world.send_as(&own, "application/x-ndjson", lines)).await;
    assert_eq!((status, &answer["accepted"]), (StatusCode::MULTI_STATUS, &json!(2)));
    let csv = "recorded_at,lat,lon,speed_mps\n2026-11-21T10:00:05Z,52.5,13.4,7.5\n";
    let (_, answer) = send(world.send_as(&own, "text/csv; charset=utf-8", csv)).await;
    assert_eq!(answer["accepted"], 1, "{answer}");
    let gpx =
        r#"<gpx><trk><trkseg><trkpt lat="52.5" lon="13.4"><ele>34</ele><time>2026-11-21T10:00:06Z</time></trkpt></trkseg></trk></gpx>"#;
    let (_, answer) = send(world.send_as(&format!("/points?track_id={track}"), "application/gpx+xml", gpx)).await;
    assert_eq!(answer["accepted"], 1, "{answer}");
    let items = world.until_stored(&track, 7).await;
    let times: Vec<&str> = items.as_array().unwrap().iter().map(|item| item["recorded_at"].as_str().unwrap()).collect();
    assert_eq!(times, (0..7).map(|n| format!("2026-11-21T10:00:0{n}Z")).collect::<Vec<_>>());
    assert_eq!((&items[3]["attributes"], &items[5]["speed_mps"], &items[6]["altitude_m"]), (&json!({"a": 1}), &json!(7.5), &json!(34.0)));
    let (_, stats) = send(world.get(&format!("/tracks/{track}/stats"))).await;
    assert_eq!((&stats["bucket"], &stats["items"][0]["count"]), (&json!("hour"), &json!(7)));
    assert_eq!(send(world.get("/points/stats?bucket=day")).await.1["items"][0]["count"], 7);
    assert_eq!(send(world.get(&format!("/tracks/{track}/latest"))).await.1, items[6]);
    let (_, listed) = send(world.get("/tracks?latest=true&hour=true")).await;
    assert_eq!((&listed["items"][0]["latest"], &listed["items"][0]["hour"]), (&items[6], &stats["items"][0]));
}

#[tokio::test]
async fn each_form_may_begin_with_a_mark() {
    let world = World::new().await;
    let own = format!("/tracks/{}/points", world.track().await);
    let gpx = r#"<gpx><trk><trkseg><trkpt lat="1" lon="1"><time><![CDATA[2026-11-21T10:00:00Z]]></time></trkpt></trkseg></trk></gpx>"#;
    let json = r#"{"recorded_at":"2026-11-21T10:00:00Z","lat":1,"lon":2}"#;
    let many = format!(r#"{{"points":[{json}]}}"#);
    let csv = "recorded_at,lat,lon\n2026-11-21T10:00:00Z,1,2\n";
    for (form, body) in [("json", json), ("json", &many), ("x-ndjson", json), ("csv", csv), ("gpx+xml", gpx)] {
        let form = if form == "csv" { "text/csv".to_owned() } else { format!("application/{form}") };
        let (_, answer) = send(world.send_as(&own, &form, format!("\u{feff}{body}"))).await;
        assert_eq!(answer, json!({"accepted": 1, "rejected": []}), "{form}");
    }
}

#[tokio::test]
async fn pages_go_on_where_they_end_in_either_order() {
    let world = World::new().await;
    let track = world.track().await;
    let points: Vec<Value> = (0..5).map(|second| point(&track, second)).collect();
    let sent = world.post("/points?durability=postgres").json(&json!({ "points": points }));
    assert_eq!(send(sent).await.0, StatusCode::OK);
    for (order, expected) in [("asc", [0, 1, 2, 3, 4]), ("desc", [4, 3, 2, 1, 0])] {
        let (mut seconds, mut cursor) = (Vec::new(), String::new());
        loop {
            let (_, page) = send(world.get(&format!("/tracks/{track}/points?order={order}&limit=2{cursor}"))).await;
            let items = page["items"].as_array().unwrap();
            seconds.extend(items.iter().map(|item| item["recorded_at"].as_str().unwrap()[17..19].parse::<i32>().unwrap()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seconds, expected, "{order}");
    }
    let (_, page) = send(world.get(&format!("/tracks/{track}/points?from=2026-11-21T10:00:01Z&to=2026-11-21T10:00:03Z"))).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    for query in ["from=2026-11-21", "from=2026-11-22T00:00:00Z&to=2026-11-21T00:00:00Z", "limit=0", "order=up", "cursor=xyz"] {
        assert_eq!(world.get(&format!("/tracks/{track}/points?{query}")).send().await.unwrap().status(), 400, "{query}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_point_is_told_by_its_place_and_stops_no_other() {
    let world = World::new().await;
    let track = world.track().await;
    let mut wrong = point(&track, 1);
    wrong["lat"] = json!(91);
    let mut year = point(&track, 2);
    year["recorded_at"] = json!("10000-01-01T00:00:00Z");
    let body = json!({"points": [point(&track, 0), wrong, year, {"lat": 1}, 7, point(&track, 0)]});
    let (status, answer) = send(world.post("/points").json(&body)).await;
    assert_eq!((status, &answer["accepted"]), (StatusCode::MULTI_STATUS, &json!(2)));
    let told: Vec<(u64, &str, &str)> = answer["rejected"].as_array().unwrap().iter().map(told).collect();
    let expected = [(1, "validation_failed", "/lat"), (2, "validation_failed", "/recorded_at"), (3, "validation_failed", "/track_id")];
    assert_eq!((&told[..3], told[3]), (&expected[..], (4, "invalid_json", "")));
    let half = format!("{}\n{{\"lat\":NaN\n\u{fffd}\n{}\n{{\"track_id", point(&track, 3), point(&track, 4));
    let (_, answer) = send(world.send_as("/points", "application/x-ndjson", half)).await;
    assert_eq!(answer["accepted"], 2, "{answer}");
    let places: Vec<&Value> = answer["rejected"].as_array().unwrap().iter().map(|rejected| &rejected["index"]).collect();
    assert_eq!(places, [1, 2, 4]);
    let (status, problem) = send(world.post("/points?atomic=true").json(&body)).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("/points/1/lat")));
    world.until_stored(&track, 3).await;
}

fn told(rejected: &Value) -> (u64, &str, &str) {
    let problem = &rejected["problem"];
    let pointer = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
    (rejected["index"].as_u64().unwrap(), problem["code"].as_str().unwrap(), pointer)
}

#[rstest]
#[case::list("application/json", "[]", 400, "invalid_json")]
#[case::half("application/json", "{\"points\":[{}", 400, "invalid_json")]
#[case::none("application/json", "{\"points\":[]}", 422, "validation_failed")]
#[case::nothing("application/x-ndjson", "\n\n", 422, "validation_failed")]
#[case::csv_header("text/csv", "a,b\n1,2\n", 400, "invalid_csv")]
#[case::csv_open_quote("text/csv", "lat,lon,recorded_at\n1,1,\"2026-11-21T10:00:00Z", 400, "invalid_csv")]
#[case::csv_header_alone("text/csv", "lat,lon,recorded_at\n", 422, "validation_failed")]
#[case::gpx_root_alone("application/gpx+xml", "<gpx/>", 422, "validation_failed")]
#[case::gpx_and_more("application/gpx+xml", "<gpx></gpx>more", 400, "invalid_gpx")]
#[case::bomb("application/gpx+xml", "<!DOCTYPE gpx [<!ENTITY a \"aa\">]><gpx>&a;</gpx>", 400, "invalid_gpx")]
#[case::unknown("application/xml", "<gpx/>", 415, "unsupported_media_type")]
#[case::single("application/json", "{\"lat\":1}", 422, "validation_failed")]
#[tokio::test]
async fn a_body_that_is_wrong_as_a_whole_is_refused(#[case] form: &str, #[case] body: &str, #[case] status: u16, #[case] code: &str) {
    let world = World::new().await;
    assert_eq!(send_for_problem(world.send_as("/points", form, body.to_owned())).await, (status, code.to_owned()));
}

#[tokio::test]
async fn more_points_than_a_request_may_hold_are_refused() {
    let world = World::new().await;
    let track = world.track().await;
    let line = format!("{}\n", point(&track, 0));
    assert_eq!(send_for_problem(world.post("/points").json(&json!({"points": vec![1; 10_001]}))).await.0, 422);
    let with_one_wrong = format!("{{}}\n{}", line.repeat(10_100));
    let (status, answer) = send(world.send_as("/points", "application/x-ndjson", with_one_wrong)).await;
    assert_eq!((status, &answer["stopped"]["problem"]["code"]), (StatusCode::MULTI_STATUS, &json!("body_too_large")));
    assert_eq!((&answer["accepted"], &answer["stopped"]["index"]), (&json!(9_999), &json!(10_000)), "all that a request may hold");
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_database_vouches_where_that_is_asked_for() {
    let world = World::new().await;
    let track = world.track().await;
    let bob = register(&world.app, "bob@example.org").await;
    let (_, foreign) = send(world.app.post("/api/v1/tracks").bearer_auth(token(&bob)).json(&json!({"name": "bob's"}))).await;
    let foreign = point(foreign["id"].as_str().unwrap(), 1);
    let (status, answer) = send(world.post("/points?durability=postgres").json(&json!({"points": [point(&track, 0), foreign]}))).await;
    assert_eq!((status, &answer["accepted"], answer["rejected"][0]["index"].as_u64()), (StatusCode::OK, &json!(1), Some(1)));
    assert_eq!(send_for_problem(world.post("/points?durability=postgres").json(&foreign)).await.0, 422);
    let both = json!({"points": [point(&track, 2), foreign]});
    assert_eq!(send_for_problem(world.post("/points?durability=postgres&atomic=true").json(&both)).await.0, 422);
    let (_, page) = send(world.get(&format!("/tracks/{track}/points"))).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["items"][0]["recorded_at"], AT);
}

#[tokio::test]
async fn a_full_stream_refuses_before_the_body_is_read() {
    let world = World::with(&[("INGEST_MAX_DEPTH", "1")]).await;
    let track = world.track().await;
    assert_eq!(send(world.post("/points").json(&point(&track, 0))).await.0, StatusCode::ACCEPTED);
    let refused = world.send_as("/points", "application/json", "this is read by nobody").send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    // The table has room.
    assert_eq!(send(world.post("/points?durability=postgres").json(&point(&track, 1))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn dead_letters_are_listed_requeued_and_deleted() {
    let world = World::new().await;
    let track = world.track().await;
    let missing = point("01a1fb40-0000-7000-8000-00000000dead", 0);
    assert_eq!(send(world.post("/points").json(&json!({"points": [missing, point(&track, 0)]}))).await.1["accepted"], 2);
    world.until_stored(&track, 1).await;
    let (_, dead) = send(world.get("/points/dead?error_code=unknown_track")).await;
    assert_eq!(dead["items"][0]["point"], missing, "{dead}");
    let which = json!({"ids": [dead["items"][0]["id"]]});
    assert_eq!(send(world.post("/points/dead/requeue").json(&which)).await.1, json!({"requeued": 1, "more": false}));
    assert_eq!(send(world.post("/points").json(&point(&track, 1))).await.0, StatusCode::ACCEPTED);
    world.until_stored(&track, 2).await;
    let delete = world.app.request(Method::DELETE, "/api/v1/points/dead").bearer_auth(token(&world.ada)).json(&json!({"all": true}));
    let deadline = Instant::now() + Duration::from_secs(20);
    while send(world.get("/points/dead")).await.1["items"] == json!([]) {
        assert!(Instant::now() < deadline, "it is dead again");
        world.until_stored(&track, 2).await;
    }
    assert_eq!(send(delete).await.1["removed"], 1);
}
