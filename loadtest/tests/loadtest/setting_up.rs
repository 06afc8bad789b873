//! What is asked of the platform before the load: a session, and jobs to read.

use std::sync::atomic::{AtomicU64, Ordering};

use loadtest::Error;

use crate::measure;
use crate::stub::{Reply, Request, Stub};

const ACCOUNT: &str = "--email a@example.org --password secret-1";

fn has_token(request: &Request) -> bool {
    request.headers.iter().any(|header| header == "Authorization: Bearer token-1")
}

/// A platform with one account, whose jobs end at the third look.
fn platform() -> Stub {
    let n_looks = AtomicU64::new(0);
    Stub::start(move |request| {
        let line = request.line.trim_end_matches(" HTTP/1.1");
        match line {
            "POST /api/v1/auth/login" if request.body.contains("secret-1") => {
                Reply::json(200, r#"{"access_token":"token-1","expires_in":900}"#)
            }
            "POST /api/v1/auth/login" => Reply::json(401, r#"{"title":"Wrong password"}"#),
            _ if !has_token(request) => Reply::json(401, "{}"),
            "POST /api/v1/jobs/bulk" => {
                let n_jobs = request.body.matches("debug.echo").count();
                let items: Vec<_> = (0..n_jobs).map(|index| format!(r#"{{"index":{index},"status":202,"id":"job-{index}"}}"#)).collect();
                Reply::json(207, &format!(r#"{{"items":[{}]}}"#, items.join(",")))
            }
            "POST /api/v1/jobs" => Reply::json(202, "{}"),
            _ => match n_looks.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => Reply::json(200, r#"{"state":"queued"}"#),
                _ => Reply::json(200, r#"{"state":"succeeded"}"#),
            },
        }
    })
}

#[test]
fn job_get_submits_jobs_waits_until_they_end_and_reads_them_in_rotation() {
    let stub = platform();
    let report = measure(&stub, &format!("--target job-get --jobs 3 -c 2 {ACCOUNT}")).unwrap();
    assert_eq!(report.rows[0].median.errors.total, 0);
    let lines = stub.lines();
    assert_eq!(lines[0], "POST /api/v1/auth/login HTTP/1.1");
    assert_eq!(lines[1], "POST /api/v1/jobs/bulk HTTP/1.1");
    for job_idx in 0..3 {
        let line = format!("GET /api/v1/jobs/job-{job_idx} HTTP/1.1");
        assert!(lines.iter().filter(|seen| **seen == line).count() > 1, "{line}");
    }
}

#[test]
fn targets_send_their_request_as_the_account() {
    let cases = [
        ("me", "GET /api/v1/auth/me HTTP/1.1"),
        ("jobs-list", "GET /api/v1/jobs HTTP/1.1"),
        ("job-submit", "POST /api/v1/jobs HTTP/1.1"),
        ("queues", "GET /api/v1/queues?limit=20 HTTP/1.1"),
    ];
    for (target, line) in cases {
        let stub = platform();
        let report = measure(&stub, &format!("--target {target} -c 1 {ACCOUNT}")).unwrap();
        assert_eq!(report.rows[0].median.errors.total, 0, "{target}");
        assert_eq!(stub.lines().get(1).map(String::as_str), Some(line));
    }
}

#[test]
fn a_token_is_sent_as_it_is_and_nobody_signs_in() {
    let stub = platform();
    let report = measure(&stub, "--target me --token token-1 -c 1").unwrap();
    assert_eq!(report.rows[0].median.errors.total, 0);
    assert!(stub.lines().iter().all(|line| line.starts_with("GET /api/v1/auth/me ")));
}

#[test]
fn a_refused_sign_in_says_why() {
    let stub = platform();
    let refused = measure(&stub, "--target me --email a@example.org --password wrong");
    let Err(Error::Failed(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("401 (Wrong password)"), "{reason}");
}

#[test]
fn a_target_that_needs_an_account_says_so_before_anything_is_sent() {
    let stub = platform();
    let refused = measure(&stub, "--target me");
    let Err(Error::Usage(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("--email"), "{reason}");
    assert_eq!(stub.n_requests(), 0);
}
