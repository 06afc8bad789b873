//! `millrace-loadtest overload` and `saturation` against a small platform in memory, which sheds and may lose a job.

use std::sync::{Arc, Mutex};

use clap::Parser;
use loadtest::overload::{self, OverloadArgs, OverloadReport};
use loadtest::saturation::{self, SaturationArgs};
use loadtest::{Error, Output};
use serde_json::json;

use crate::stub::{Reply, Request, Stub};

#[derive(Parser)]
struct Overload {
    #[command(flatten)]
    args: OverloadArgs,
}

#[derive(Parser)]
struct Saturation {
    #[command(flatten)]
    args: SaturationArgs,
}

/// Every fourth request of the load is shed, unless there is room for all.
#[derive(Default)]
struct Platform {
    has_room: bool,
    loses_one: bool,
    n_jobs: u64,
    keys: Vec<String>,
    jobs: Vec<String>,
    n_points: usize,
    times: Vec<String>,
    n_shed: u64,
    is_cleared: bool,
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
        let key = request.headers.iter().find_map(|line| line.strip_prefix("Idempotency-Key: "));
        match (method, &words[..]) {
            ("POST", ["tracks"]) => Reply::json(201, r#"{"id":"t"}"#),
            ("DELETE", ["tracks", _]) => Reply::json(204, ""),
            ("PATCH" | "DELETE", ["queues", _]) => Reply::json(200, "{}"),
            ("GET", ["queues", _]) => Reply::json(200, r#"{"stats":{"queued":0}}"#),
            ("POST", ["queues", _, "purge"]) => {
                self.is_cleared = true;
                Reply::json(200, r#"{"removed":0}"#)
            }
            ("POST", ["queues", ..]) => Reply::json(200, "{}"),
            ("POST", ["jobs"]) if key.is_some() && request.number.is_multiple_of(4) && !self.has_room => self.shed(),
            ("POST", ["jobs"]) => self.submit(key),
            ("GET", ["jobs", filter]) if filter.starts_with("queue=") => self.list(),
            ("GET", ["jobs", _]) => Reply::json(200, r#"{"state":"succeeded","finished_at":"x"}"#),
            ("POST", ["points"]) => self.take(&request.body),
            ("GET", ["tracks", "t", "stats", ..]) => Reply::json(200, &json!({"items": [{"count": self.n_points / 2}]}).to_string()),
            ("GET", ["", "metrics"]) => self.metrics(),
            _ => Reply::ok(),
        }
    }

    fn shed(&mut self) -> Reply {
        self.n_shed += 1;
        Reply::json(503, r#"{"code":"overloaded"}"#)
    }

    fn submit(&mut self, key: Option<&str>) -> Reply {
        self.n_jobs += 1;
        self.keys.extend(key.map(str::to_owned));
        let id = format!("00000000-0000-0000-0000-{:012x}", self.n_jobs);
        if !(key.is_some() && std::mem::take(&mut self.loses_one)) {
            self.jobs.push(id.clone());
        }
        Reply::json(202, &json!({"id": id}).to_string())
    }

    fn list(&self) -> Reply {
        let items: Vec<_> = self.jobs.iter().map(|id| json!({"id": id, "state": "succeeded", "attempt": 1})).collect();
        Reply::json(200, &json!({"items": items, "next_cursor": null}).to_string())
    }

    fn take(&mut self, body: &str) -> Reply {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let points = body["points"].as_array().unwrap();
        self.n_points += points.len();
        self.times.push(points[0]["recorded_at"].as_str().unwrap().to_owned());
        Reply::json(207, &json!({"accepted": points.len(), "rejected": []}).to_string())
    }

    fn metrics(&self) -> Reply {
        let n = self.n_shed;
        let text = format!("http_server_shed_seconds_bucket{{le=\"0.001\"}} {n}\nhttp_server_shed_seconds_bucket{{le=\"+Inf\"}} {n}\n");
        Reply::Pieces(vec![format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()])
    }
}

fn measure(stub: &Stub) -> Result<OverloadReport, Error> {
    let line = format!(
        "overload --url {} --token t -q -c 4 --peak-connections 2 --peak-duration 100ms -d 100ms --warmup 10ms --batch 2 --loads 0.5,2 --within 5s",
        stub.url()
    );
    let args = Overload::try_parse_from(line.split(' ')).expect("the options are legal").args;
    let (mut results, mut notes) = (Vec::new(), Vec::new());
    overload::run(&args, &mut Output::new(&mut results, &mut notes))
}

#[test]
fn every_accepted_job_and_point_is_accounted_for_and_sent_once() {
    let (stub, platform) = platform(false);
    let report = measure(&stub).unwrap();
    let mut platform = platform.lock().unwrap();
    assert_eq!(report.loads.iter().map(|load| load.times_peak).collect::<Vec<_>>(), [0.5, 2.0]);
    assert_eq!((report.ledger.accepted, report.ledger.missing), (platform.n_jobs, 0));
    assert_eq!(report.points.accepted as usize, platform.n_points);
    assert!(report.is_balanced && report.peak.per_second > 0.0 && platform.is_cleared);
    assert!(report.loads.iter().any(|load| load.shed_decided_p99_ms == Some(1.0)), "{:?}", report.loads);
    for sent in [platform.keys.clone(), std::mem::take(&mut platform.times)] {
        let mut distinct = sent.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), sent.len(), "nothing is sent twice under one name");
    }
}

#[test]
fn a_limit_that_is_not_reached_is_no_kept_promise() {
    let (stub, platform) = platform(false);
    platform.lock().unwrap().has_room = true;
    let report = measure(&stub).unwrap();
    let of_shedding: Vec<_> = report.verdicts.iter().filter(|verdict| verdict.promise.contains("shed")).collect();
    let [verdict] = of_shedding[..] else { panic!("{of_shedding:?}") };
    assert!(!verdict.is_kept && verdict.measured.contains("nothing was shed"), "{verdict:?}");
}

#[test]
fn a_lost_job_unbalances_the_ledger() {
    let (stub, _) = platform(true);
    let outcome = measure(&stub);
    let Err(Error::Failed(reason)) = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("does not balance"), "{reason}");
}

#[test]
fn connections_are_opened_until_none_is_let_in_and_then_given_back() {
    // Half of the connections are told that there is no room.
    let stub = Stub::start(|request| match request.line.contains("/healthz") && request.headers.len() == 1 && request.number % 2 == 1 {
        true => Reply::ThenClose(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec()),
        false => Reply::ok(),
    });
    let line = format!("saturation --url {} --token t -q --resources http,pool --max 10 --senders 2 --hold 50ms", stub.url());
    let args = Saturation::try_parse_from(line.split(' ')).expect("the options are legal").args;
    let (mut results, mut notes) = (Vec::new(), Vec::new());
    let report = saturation::run(&args, &mut Output::new(&mut results, &mut notes)).unwrap();
    let [http, pool] = &report.rows[..] else { panic!("{report:?}") };
    assert_eq!(u64::from(http.held) + http.refused, 10, "{http:?}");
    assert!(http.refused == 0 || http.refusal.as_ref().is_some_and(|told| told.contains("503")), "{http:?}");
    assert!(pool.held == 2 && pool.per_second > 0.0 && pool.recovered_after_s.is_some(), "{pool:?}");
}
