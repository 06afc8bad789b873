//! Promised response times: met when the mean is within the target and 99 of 100 within what is acceptable.

use super::super::findings::Findings;
use super::super::report::Judged;
use super::Promise;
use crate::columns::short_ms;
use crate::http::Percentiles;

const GROUP: &str = "Response times";

/// What is promised, in milliseconds: target, and the most that is acceptable. The last is what it was measured by.
struct Limit(&'static str, &'static str, f64, f64);

const SIMPLE: Limit = Limit("a simple call", "< 10 ms, at most 50 ms", 10.0, 50.0);
const READ: Limit = Limit("a database query", "< 20 ms, at most 100 ms", 20.0, 100.0);
const JOIN: Limit = Limit("a complex join", "< 100 ms, at most 500 ms", 100.0, 500.0);
const UPLOAD: Limit = Limit("a file upload", "< 500 ms, at most 3 s", 500.0, 3_000.0);
const TASK: Limit = Limit("a background task", "< 5 s, at most 30 s", 5_000.0, 30_000.0);

pub(super) fn judge(findings: Findings<'_>) -> Vec<Judged> {
    let at_half = |part: &str| findings.at_half(part).and_then(|figures| figures.latency_ms);
    let upload = findings.files().into_iter().next().and_then(|step| step.requests.latency_ms);
    let task = findings.jobs("pickup").and_then(|run| run.pickup).map(|pickup| pickup.ended_ms);
    let single = |text: &str, promised: &str, took: Option<Percentiles>, most_ms: f64, part: &str| {
        let promise = Promise::of(GROUP, text, promised);
        match took {
            Some(took) => promise
                .kept(took.p50 < most_ms, format!("p50 {} ms", short_ms(took.p50)))
                .because("with the whole HTTP request around the statement: the statement alone takes less"),
            None => promise.not_measured(findings.why_not(part)),
        }
    };
    vec![
        timed(findings, SIMPLE, at_half("calls"), "calls", "GET /healthz at half of the peak, from when a request was due"),
        timed(findings, READ, at_half("reads"), "reads", "GET /jobs/{id} at half of the peak, from when a request was due"),
        timed(findings, JOIN, at_half("queues"), "queues", "queues with their counts, dead letters and workers, at half of the peak"),
        Promise::of(GROUP, "an AI feature", "< 2 s, at most 5 s")
            .not_measured("a language model's time, not ours: AI_TIMEOUT_MS (5 s) ends what takes longer"),
        timed(findings, UPLOAD, upload, "files", "one upload of 10 MiB after another, from its first byte to the answer"),
        timed(findings, TASK, task, "pickup", "debug.echo on an idle worker, from its submit to its end"),
        single("simple SQL", "< 5 ms", at_half("reads"), 5.0, "reads"),
        single("SQL with a join", "< 50 ms", at_half("queues"), 50.0, "queues"),
        Promise::of(GROUP, "an aggregate over a million records", "< 100 ms")
            .not_measured("needs a million points: `make bench-points` makes and reads them (docs/performance.md)"),
    ]
}

fn timed(findings: Findings<'_>, limit: Limit, took: Option<Percentiles>, part: &str, how: &str) -> Judged {
    let Limit(what, promised, target_ms, most_ms) = limit;
    let promise = Promise::of(GROUP, what, promised);
    match took {
        Some(took) => promise
            .kept(took.mean < target_ms && took.p99 <= most_ms, format!("mean {} ms, p99 {} ms", short_ms(took.mean), short_ms(took.p99)))
            .because(how),
        None => promise.not_measured(findings.why_not(part)),
    }
}
