//! Promised throughput and sizes.

use super::super::findings::Findings;
use super::super::report::Judged;
use super::Promise;
use crate::columns::grouped;

const GROUP: &str = "Throughput";

pub(super) fn judge(findings: Findings<'_>, n_servers: usize) -> Vec<Judged> {
    let mut judged = requests(findings);
    judged.extend(sockets(findings));
    judged.extend(sizes(findings, n_servers));
    judged
}

fn requests(findings: Findings<'_>) -> Vec<Judged> {
    let at_least = |what: &str, promised: &str, least: f64, measured: Option<f64>, part: &str| {
        let promise = Promise::of(GROUP, what, promised);
        match measured {
            Some(per_s) => promise.kept(per_s >= least, format!("{}/s", grouped(per_s))),
            None => promise.not_measured(findings.why_not(part)),
        }
    };
    let of_requests = findings.peak("ladder").map(|(per_s, _)| per_s);
    let of_reads = findings.peak("reads").map(|(per_s, _)| per_s);
    let queries = at_least("database queries", "50,000–100,000/s", 50_000.0, of_reads, "reads");
    vec![
        at_least("requests", "20,000–50,000/s", 20_000.0, of_requests, "ladder").because("GET /healthz, the best rung of the ladder"),
        queries.because("GET /jobs/{id} answered from PostgreSQL over HTTP; look-ups that meet share a statement"),
        Promise::of(GROUP, "cache operations", "500,000/s").refuted(
            None,
            "one Redis does 100,000 to 200,000 single commands a second on one core; half a million needs pipelines or several servers (`make bench-backends` measures both)",
        ),
        match findings.jobs("jobs") {
            Some(run) => Promise::of(GROUP, "background jobs", "1,440/min").kept(run.jobs_per_s * 60.0 >= 1_440.0, format!("{}/min", grouped(run.jobs_per_s * 60.0))),
            None => Promise::of(GROUP, "background jobs", "1,440/min").not_measured(findings.why_not("jobs")),
        },
        at_least("messages to sockets", "10,000+/s", 10_000.0, findings.broadcast().map(|run| run.deliveries_per_s), "broadcast"),
        at_least("requests over sockets", "10,000+/s", 10_000.0, findings.echo().map(|run| run.per_s), "echo"),
    ]
}

fn sockets(findings: Findings<'_>) -> Vec<Judged> {
    let Some(capacity) = findings.capacity() else {
        let why = findings.why_not("sockets");
        let all = [("WebSockets", "10,000+"), ("sockets of each worker", "500–2,000"), ("an idle socket", "2–5 KB")];
        return all.map(|(what, promised)| Promise::of(GROUP, what, promised).not_measured(why.clone())).into();
    };
    let ended = match &capacity.degraded_at {
        Some(at) => format!("worse at {}: {}", grouped(f64::from(at.sockets)), at.reason),
        None => "nothing had become worse when the ramp ended: more may be possible".to_owned(),
    };
    let held = Promise::of(GROUP, "WebSockets", "10,000+").kept(capacity.sustained >= 10_000, grouped(f64::from(capacity.sustained)));
    let per_worker = match &capacity.advice {
        Some(advice) => Promise::of(GROUP, "sockets of each worker", "500–2,000").kept(
            advice.sockets_per_worker >= 500,
            format!("{} in each of {} threads", grouped(f64::from(advice.sockets_per_worker)), advice.workers),
        ),
        None => Promise::of(GROUP, "sockets of each worker", "500–2,000").not_measured("no --server-pid tells how many threads there are"),
    };
    let idle = Promise::of(GROUP, "an idle socket", "2–5 KB");
    let kernel = "memory of the process alone. The kernel's buffers of a connection come on top, some kilobytes each, so that all of it in 2 KB is not possible on any stack";
    vec![
        held.because(ended),
        per_worker,
        match capacity.kb_per_socket {
            Some(kb) => idle.refuted(Some(format!("{kb:.2} KB")), kernel),
            None => idle.not_measured("no --server-pid tells whose memory to look at"),
        },
    ]
}

fn sizes(findings: Findings<'_>, n_servers: usize) -> Vec<Judged> {
    let promise = Promise::of(GROUP, "memory of a container", "150–300 MB");
    let peak = findings.rows("ladder").iter().filter_map(|row| row.median.server).map(|usage| usage.rss_peak_bytes).max();
    let judged = match peak {
        Some(bytes) => {
            let megabytes = bytes as f64 / 1e6 / n_servers.max(1) as f64;
            let because = "each API process, at most over the ladder to its last rung";
            promise.kept(megabytes <= 300.0, format!("{} MB", grouped(megabytes))).because(because)
        }
        None => promise.not_measured("no --server-pid tells whose memory to look at"),
    };
    vec![judged]
}
