//! `millrace-loadtest ingest` against a small platform in memory, which can be told to lose a point.

use std::sync::{Arc, Mutex};

use clap::Parser;
use loadtest::ingest::{self, IngestArgs, IngestReport};
use loadtest::{Error, Output};
use serde_json::{Value, json};

use crate::stub::{Reply, Request, Stub};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    ingest: IngestArgs,
}

/// Stores points as they come.
#[derive(Default)]
struct Platform {
    loses_one: bool,
    n_tracks: usize,
    n_deleted: usize,
    /// Track and time.
    points: Vec<(String, String)>,
}

fn platform(loses_one: bool) -> (Stub, Arc<Mutex<Platform>>) {
    let platform = Arc::new(Mutex::new(Platform { loses_one, ..Platform::default() }));
    let seen = Arc::clone(&platform);
    (Stub::start(move |request| seen.lock().unwrap().answer(request)), platform)
}

impl Platform {
    fn answer(&mut self, request: &Request) -> Reply {
        let (method, path) = request.line.trim_end_matches(" HTTP/1.1").split_once(' ').unwrap();
        let words: Vec<&str> = path.trim_start_matches("/api/v1/").split(['/', '?']).collect();
        match (method, &words[..]) {
            ("POST", ["tracks"]) => {
                self.n_tracks += 1;
                Reply::json(201, &json!({"id": format!("t{}", self.n_tracks)}).to_string())
            }
            ("DELETE", ["tracks", _]) => {
                self.n_deleted += 1;
                Reply::json(204, "")
            }
            ("POST", ["points"]) => self.take(&request.body),
            ("GET", ["points", "stats", ..]) => stats(self.points.len()),
            ("GET", ["tracks", id, "stats", ..]) => stats(self.times_of(id).len()),
            ("GET", ["tracks", id, "points", ..]) => {
                let newest = self.times_of(id).into_iter().max();
                Reply::json(200, &json!({"items": newest.map(|at| json!({"recorded_at": at})).as_slice()}).to_string())
            }
            _ => Reply::json(404, "{}"),
        }
    }

    fn take(&mut self, body: &str) -> Reply {
        let body: Value = serde_json::from_str(body).unwrap();
        let single = body.get("points").is_none();
        let points = if single { vec![body] } else { body["points"].as_array().unwrap().clone() };
        for point in &points {
            if std::mem::take(&mut self.loses_one) {
                continue;
            }
            let text = |field: &str| point[field].as_str().unwrap().to_owned();
            self.points.push((text("track_id"), text("recorded_at")));
        }
        Reply::json(if single { 202 } else { 207 }, &json!({"accepted": points.len(), "rejected": []}).to_string())
    }

    fn times_of(&self, id: &str) -> Vec<&str> {
        self.points.iter().filter(|(track, _)| track == id).map(|(_, at)| at.as_str()).collect()
    }
}

fn stats(n_points: usize) -> Reply {
    Reply::json(200, &json!({"items": [{"count": n_points}]}).to_string())
}

fn measure(stub: &Stub, options: &str) -> Result<IngestReport, Error> {
    let line = format!("ingest {options} --url {} --token t -q --repeat 1 --batch 10 --tracks 2 -c 1 --timeout 20s", stub.url());
    let args = Command::try_parse_from(line.split(' ')).expect("the options are legal").ingest;
    let (mut results, mut notes) = (Vec::new(), Vec::new());
    ingest::run(&args, &mut Output::new(&mut results, &mut notes)).map(|report| report.expect("what is measured has a report"))
}

#[test]
fn points_are_sent_once_each_in_the_order_of_their_time_or_backwards() {
    for (options, is_backwards) in [("store -n 95", false), ("store -n 95 --backwards", true)] {
        let (stub, platform) = platform(false);
        let report = measure(&stub, options).unwrap();
        assert_eq!((report.runs[0].points, report.runs[0].stored), (100, Some(100)), "{options}");
        let platform = platform.lock().unwrap();
        let batches: Vec<&str> = platform.times_of("t1").into_iter().step_by(5).collect();
        assert_eq!(batches.is_sorted(), !is_backwards, "{options}: {batches:?}");
        assert_eq!((platform.n_tracks, platform.n_deleted), (2, 2), "{options}");
    }
}

#[test]
fn a_flow_sends_what_is_due_and_tells_when_points_can_be_read() {
    let (stub, platform) = platform(false);
    let report = measure(&stub, "flow --rate 1000 -d 400ms").unwrap();
    let run = &report.runs[0];
    assert!(run.is_balanced && run.n_probes > 0 && run.readable_ms.is_some(), "{run:?}");
    assert!((10..=410).contains(&run.points) && run.stored == Some(run.points), "{run:?}");
    let platform = platform.lock().unwrap();
    assert_eq!(platform.points.len() as u64, run.points + run.n_probes);
    assert_eq!(platform.n_deleted, platform.n_tracks);
}

#[test]
fn a_lost_point_unbalances_the_ledger() {
    let (stub, _) = platform(true);
    let outcome = measure(&stub, "store -n 50 --within 500ms");
    let Err(Error::Failed(reason)) = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("does not balance"), "{reason}");
}
