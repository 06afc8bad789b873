//! `millrace-loadtest jobs` against a small platform in memory, which can be told to lose, double or invent jobs.

use std::sync::{Arc, Mutex};

use clap::Parser;
use loadtest::jobs::{self, JobsArgs, JobsReport};
use loadtest::{Error, Output};
use serde_json::{Value, json};

use crate::stub::{Reply, Request, Stub};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    jobs: JobsArgs,
}

/// What the platform does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    LosesOne,
    ListsOneTwice,
    InventsOne,
    /// Answers the first bulk with 503 after all, though its jobs are kept.
    HidesFirstBulk,
}

/// All jobs end as soon as their queue runs.
#[derive(Default)]
struct Platform {
    ids: Vec<String>,
    is_paused: bool,
    n_bulks: usize,
    requests: Vec<String>,
}

fn platform(fault: Fault) -> (Stub, Arc<Mutex<Platform>>) {
    let platform = Arc::new(Mutex::new(Platform::default()));
    let seen = Arc::clone(&platform);
    let stub = Stub::start(move |request| seen.lock().unwrap().answer(request, fault));
    (stub, platform)
}

impl Platform {
    fn answer(&mut self, request: &Request, fault: Fault) -> Reply {
        let line = request.line.trim_end_matches(" HTTP/1.1");
        let (method, path) = line.split_once(' ').unwrap();
        let last = path.split(['/', '?']).next_back().unwrap_or_default();
        self.requests.push(line.to_owned());
        match (method, path) {
            ("POST", "/api/v1/jobs/bulk") => self.bulk(request, fault),
            ("POST", "/api/v1/jobs") => {
                let id = self.accept();
                Reply::json(202, &self.job(&id).to_string())
            }
            ("GET", path) if path.starts_with("/api/v1/jobs?") => Reply::json(200, &self.list(fault).to_string()),
            ("GET", path) if path.starts_with("/api/v1/jobs/") => Reply::json(200, &self.job(last).to_string()),
            ("POST", path) if path.ends_with("/purge") => {
                let removed = std::mem::take(&mut self.ids).len();
                Reply::json(200, &json!({ "removed": removed }).to_string())
            }
            ("POST", path) => {
                self.is_paused = path.ends_with("/pause");
                Reply::json(200, "{}")
            }
            ("GET", _) => {
                let queued = if self.is_paused { self.ids.len() } else { 0 };
                Reply::json(200, &json!({"stats": {"queued": queued, "scheduled": 0, "running": 0, "retrying": 0}}).to_string())
            }
            _ => Reply::json(200, "{}"),
        }
    }

    fn accept(&mut self) -> String {
        let id = format!("01a1fb40-0000-7000-8000-{:012x}", self.ids.len());
        self.ids.push(id.clone());
        id
    }

    fn bulk(&mut self, request: &Request, fault: Fault) -> Reply {
        self.n_bulks += 1;
        let n_jobs = request.body.matches("debug.echo").count();
        let items: Vec<Value> = (0..n_jobs).map(|index| json!({"index": index, "status": 202, "id": self.accept()})).collect();
        if fault == Fault::HidesFirstBulk && self.n_bulks == 1 {
            return Reply::json(503, "{}");
        }
        Reply::json(207, &json!({ "items": items }).to_string())
    }

    fn job(&self, id: &str) -> Value {
        let at = |ms: u32| format!("2026-11-20T23:19:58.{ms:03}Z");
        match self.is_paused {
            true => json!({"id": id, "state": "queued", "attempt": 0, "created_at": at(1), "started_at": null, "finished_at": null}),
            false => json!({"id": id, "state": "succeeded", "attempt": 1, "created_at": at(1), "started_at": at(3), "finished_at": at(4)}),
        }
    }

    fn list(&self, fault: Fault) -> Value {
        let mut items: Vec<Value> = self.ids.iter().rev().map(|id| self.job(id)).collect();
        match fault {
            Fault::LosesOne => drop(items.pop()),
            Fault::ListsOneTwice => items.push(items[0].clone()),
            Fault::InventsOne => items.push(self.job("01a1fb40-ffff-7000-8000-000000000000")),
            Fault::None | Fault::HidesFirstBulk => {}
        }
        json!({"items": items, "next_cursor": null})
    }
}

fn measure(stub: &Stub, options: &str) -> Result<JobsReport, Error> {
    let line = format!("jobs {options} --url {} --token t -t 1 -q --repeat 1 --timeout 20s", stub.url());
    let args = Command::try_parse_from(line.split(' ')).expect("the options are legal").jobs;
    let (mut results, mut notes) = (Vec::new(), Vec::new());
    jobs::run(&args, &mut Output::new(&mut results, &mut notes))
}

#[test]
fn drain_fills_a_paused_queue_resumes_it_and_clears_it_away() {
    let (stub, platform) = platform(Fault::None);
    let report = measure(&stub, "drain -n 95 --bulk 10 -c 3").unwrap();
    let run = &report.runs[0];
    // One job went through the queue before the others.
    assert_eq!((run.jobs, run.ledger.accepted, run.ledger.succeeded), (100, 101, 101));
    assert!(run.is_balanced && run.jobs_per_s > 0.0);
    let platform = platform.lock().unwrap();
    assert!(platform.ids.is_empty());
    let at = |end: &str| platform.requests.iter().position(|line| line.ends_with(end)).unwrap();
    assert!(at("/pause") < at("/bulk") && at("/bulk") < at("/resume") && at("/resume") < at("/purge"));
}

#[test]
fn what_the_platform_loses_doubles_or_invents_unbalances_the_ledger() {
    for fault in [Fault::LosesOne, Fault::ListsOneTwice, Fault::InventsOne] {
        let (stub, _) = platform(fault);
        let outcome = measure(&stub, "drain -n 10 --bulk 5");
        let Err(Error::Failed(reason)) = outcome else { panic!("{fault:?}: {outcome:?}") };
        assert!(reason.contains("does not balance"), "{fault:?}: {reason}");
    }
}

#[test]
fn jobs_of_a_bulk_without_a_clear_answer_may_be_there() {
    let (stub, _) = platform(Fault::HidesFirstBulk);
    let report = measure(&stub, "drain -n 20 --bulk 5 -c 1").unwrap();
    let ledger = &report.runs[0].ledger;
    // With the job that went through the queue first.
    assert_eq!((ledger.accepted, ledger.unacknowledged, ledger.in_doubt), (16, 5, 5));
}

#[test]
fn enqueue_counts_jobs_and_leaves_the_queue_paused() {
    for (bulk, path) in [("1", "POST /api/v1/jobs"), ("7", "POST /api/v1/jobs/bulk")] {
        let (stub, platform) = platform(Fault::None);
        let report = measure(&stub, &format!("enqueue --bulk {bulk} -c 2 -d 100ms --warmup 10ms")).unwrap();
        let run = &report.runs[0];
        assert!(run.jobs > 0 && run.ledger.live == run.ledger.accepted && run.is_balanced, "{run:?}");
        let platform = platform.lock().unwrap();
        assert!(platform.requests.iter().any(|line| line == path));
        assert!(!platform.requests.iter().any(|line| line.ends_with("/resume")));
    }
}

#[test]
fn pickup_tells_creation_to_start_by_the_jobs_own_times() {
    let (stub, _) = platform(Fault::None);
    let report = measure(&stub, "pickup -n 5").unwrap();
    let run = &report.runs[0];
    let pickup = run.pickup.unwrap();
    assert_eq!((run.jobs, pickup.started_ms.p50.round(), pickup.ended_ms.max.round()), (5, 2.0, 3.0));
}
