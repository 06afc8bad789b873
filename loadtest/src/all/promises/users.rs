//! Promises by concurrent users: each user is a connection that asks again when it is answered, as `wrk` does it.

use super::super::findings::Findings;
use super::super::report::{Judged, Verdict};
use super::Promise;
use crate::columns::{grouped, short_ms};
use crate::http::{Mode, Row};

const GROUP: &str = "Concurrent users";

/// Users, requests per second at the least, mean and p99 in milliseconds at most.
const TABLE: [(u32, f64, f64, f64); 5] = [
    (100, 5_000.0, 10.0, 50.0),
    (1_000, 15_000.0, 20.0, 100.0),
    (5_000, 30_000.0, 50.0, 200.0),
    (10_000, 40_000.0, 100.0, 500.0),
    (24_000, 50_000.0, 200.0, 1_000.0),
];

/// What four, six and eight workers were promised for: users, requests per second, mean in milliseconds, part that succeeds.
const BY_WORKERS: [(&str, u32, f64, f64, f64); 6] = [
    ("4 workers under 500 users", 500, 600.0, 800.0, 99.5),
    ("6 workers under 500 users", 500, 900.0, 550.0, 99.9),
    ("8 workers under 500 users", 500, 1_000.0, 500.0, 99.9),
    ("4 workers under 1,000 users", 1_000, 600.0, 1_600.0, 95.0),
    ("6 workers under 1,000 users", 1_000, 900.0, 1_100.0, 99.0),
    ("8 workers under 1,000 users", 1_000, 1_000.0, 1_000.0, 99.5),
];

pub(super) fn judge(findings: Findings<'_>, n_servers: usize) -> Vec<Judged> {
    let rows: Vec<Row> = findings.rows("ladder").into_iter().filter(|row| row.mode == Mode::Closed).collect();
    let row = |users: u32| rows.iter().find(|row| row.connections == users);
    let why = |users: u32| match (rows.is_empty(), users) {
        (true, _) => findings.why_not("ladder"),
        (false, 24_000) if n_servers < 2 => "a process may open 20,000 files here: needs two API processes (--url a,b)".to_owned(),
        (false, _) => "the ladder has no such rung".to_owned(),
    };
    let mut judged: Vec<Judged> = TABLE.iter().map(|line| of_table(line, row(line.0), || why(line.0))).collect();
    judged.extend(BY_WORKERS.iter().map(|line| of_workers(line, row(line.1), || why(line.1))));
    judged.push(match rows.first() {
        Some(first) => Promise::of(GROUP, "a single worker in development", "100–200/s")
            .kept(first.median.per_second >= 100.0, format!("{}/s", grouped(first.median.per_second))),
        None => Promise::of(GROUP, "a single worker in development", "100–200/s").not_measured(why(100)),
    });
    judged
}

/// Part of the requests that were answered with 2xx, in percent.
fn success_percent(row: &Row) -> f64 {
    let failed = row.median.errors.total as f64;
    let n_ok = row.median.requests as f64 - row.median.errors.not_2xx as f64;
    if n_ok + failed > 0.0 { 100.0 * n_ok / (n_ok + failed) } else { 0.0 }
}

fn of_table((users, per_s, mean_ms, p99_ms): &(u32, f64, f64, f64), row: Option<&Row>, why: impl FnOnce() -> String) -> Judged {
    let promised = format!("{}+/s, mean < {mean_ms} ms, p99 < {} ms", grouped(*per_s), grouped(*p99_ms));
    let promise = Promise::of(GROUP, format!("{} users", grouped(f64::from(*users))), promised);
    let Some((row, latency)) = row.and_then(|row| Some((row, row.median.latency_ms?))) else { return promise.not_measured(why()) };
    let measured = format!("{}/s, mean {} ms, p99 {} ms", grouped(row.median.per_second), short_ms(latency.mean), short_ms(latency.p99));
    let is_kept = row.median.per_second >= *per_s && latency.mean < *mean_ms && latency.p99 < *p99_ms;
    let judged = promise.kept(is_kept, measured);
    match (judged.verdict, row.median.errors.total) {
        (_, errors @ 1..) => judged.because(format!("{} requests failed", grouped(errors as f64))),
        (Verdict::Missed, 0) => {
            let needed = f64::from(*users) * 1_000.0 / mean_ms;
            judged.because(format!(
                "{} connections that always wait for an answer have a mean below {mean_ms} ms from {} requests/s on, whoever answers; \
                 load generator and servers share this machine's cores",
                grouped(f64::from(*users)),
                grouped(needed)
            ))
        }
        (Verdict::Met | Verdict::Refuted | Verdict::NotMeasured, 0) => judged,
    }
}

fn of_workers((what, _, per_s, mean_ms, percent): &(&str, u32, f64, f64, f64), row: Option<&Row>, why: impl FnOnce() -> String) -> Judged {
    let promise = Promise::of(GROUP, *what, format!("{}/s in {:.2} s, {percent} % succeed", grouped(*per_s), mean_ms / 1_000.0));
    let Some((row, latency)) = row.and_then(|row| Some((row, row.median.latency_ms?))) else { return promise.not_measured(why()) };
    let succeeded = success_percent(row);
    let is_kept = row.median.per_second >= *per_s && latency.mean <= *mean_ms && succeeded >= *percent;
    promise.kept(is_kept, format!("{}/s in {:.3} s, {succeeded:.2} %", grouped(row.median.per_second), latency.mean / 1_000.0))
}
