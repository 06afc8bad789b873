//! Promises of the queue, of its administration, and of pools that run out.

use super::super::findings::Findings;
use super::super::report::Judged;
use super::Promise;
use crate::columns::grouped;

const GROUP: &str = "Queue and pools";

pub(super) fn judge(findings: Findings<'_>, n_servers: usize) -> Vec<Judged> {
    let mut judged = writing(findings);
    judged.push(sustained(findings, n_servers));
    judged.extend(administration(findings));
    judged.extend(exhaustion(findings));
    judged
}

fn writing(findings: Findings<'_>) -> Vec<Judged> {
    let promise = |what: &str, promised: &str| Promise::of(GROUP, what, promised);
    let singly = match findings.jobs("submits") {
        Some(run) => promise("jobs written singly", "11/s")
            .kept(run.jobs_per_s >= 11.0, format!("{}/s", grouped(run.jobs_per_s)))
            .because("one POST /jobs each, over 100 connections"),
        None => promise("jobs written singly", "11/s").not_measured(findings.why_not("submits")),
    };
    let Some(run) = findings.jobs("jobs") else {
        let why = findings.why_not("jobs");
        let rest = [
            ("jobs written pipelined", "3,800/s"),
            ("50,000 jobs queued", "13 s"),
            ("jobs read and processed", "1,000/s with 10 workers, 200/s with one"),
        ];
        return std::iter::once(singly).chain(rest.map(|(what, promised)| promise(what, promised).not_measured(why.clone()))).collect();
    };
    let written = run.submit_jobs_per_s.unwrap_or(0.0);
    let queued_s = if written > 0.0 { 50_000.0 / written } else { f64::INFINITY };
    let balance = if run.is_balanced { "each of them once" } else { "the ledger does NOT balance" };
    vec![
        singly,
        promise("jobs written pipelined", "3,800/s")
            .kept(written >= 3_800.0, format!("{}/s", grouped(written)))
            .because("POST /jobs/bulk, 1,000 a request"),
        promise("50,000 jobs queued", "13 s").kept(queued_s <= 13.0, format!("{queued_s:.2} s")),
        promise("jobs read and processed", "1,000/s with 10 workers, 200/s with one")
            .kept(run.jobs_per_s >= 1_000.0 && run.is_balanced, format!("{}/s with one worker", grouped(run.jobs_per_s)))
            .because(format!("{} jobs until the last had ended, {balance}", grouped(run.jobs as f64))),
    ]
}

/// CPU and memory are those of the API alone: who runs PostgreSQL is another question.
fn sustained(findings: Findings<'_>, n_servers: usize) -> Judged {
    let promise = Promise::of(GROUP, "1,000 jobs a second, sustained", "at ~30 % CPU and ~200 MB");
    let row = findings.rows("sustained").into_iter().next();
    let Some(row) = row else { return promise.not_measured(findings.why_not("sustained")) };
    let rate = format!("{}/s", grouped(row.median.per_second));
    let is_steady = row.median.per_second >= 990.0 && row.median.errors.total == 0;
    match row.median.server {
        Some(usage) => {
            let megabytes = usage.rss_peak_bytes as f64 / 1e6 / n_servers.max(1) as f64;
            let measured = format!("{rate} at {:.0} % CPU and {megabytes:.0} MB", usage.cpu_percent);
            promise
                .kept(is_steady && usage.cpu_percent <= 30.0 && megabytes <= 200.0, measured)
                .because("CPU of all API processes (100 % is one core), memory of each; one submit a request")
        }
        None => promise.kept(is_steady, rate).because("no --server-pid tells whose CPU and memory to look at"),
    }
}

fn administration(findings: Findings<'_>) -> Vec<Judged> {
    let health = Promise::of(GROUP, "health checks", "100–200/s");
    let health = match findings.peak("ladder") {
        Some((per_s, _)) => health.kept(per_s >= 100.0, format!("{}/s", grouped(per_s))),
        None => health.not_measured(findings.why_not("ladder")),
    };
    let admin = Promise::of(GROUP, "queue administration", "50–100/s");
    let admin = match findings.peak("queues") {
        Some((per_s, connections)) => {
            let clients = format!("{connections} clients at once, where 50 were promised");
            admin.kept(per_s >= 50.0, format!("{}/s", grouped(per_s))).because(clients)
        }
        None => admin.not_measured(findings.why_not("queues")),
    };
    vec![health, admin]
}

fn exhaustion(findings: Findings<'_>) -> Vec<Judged> {
    let promise = |what: String| Promise::of(GROUP, what, "failure at ~50 connections, recovery < 1 s");
    let Some(rows) = findings.saturated() else {
        return vec![promise("connections and pools that run out".to_owned()).not_measured(findings.why_not("saturation"))];
    };
    let judged = rows.into_iter().map(|row| {
        let promise = promise(format!("all of {} taken", row.resource));
        let held = grouped(f64::from(row.held));
        if row.refused == 0 {
            return promise.not_measured(format!("{held} were held and none was refused: there was room for more"));
        }
        let recovered = row.recovered_after_s.map_or_else(|| "not recovered".to_owned(), |s| format!("recovered after {s:.3} s"));
        let judged = promise.kept(row.is_kept, format!("{held} held, {} refused, {recovered}", grouped(row.refused as f64)));
        match row.refusal {
            Some(refusal) => judged.because(format!("the first that was refused was told: {refusal}")),
            None => judged,
        }
    });
    judged.collect()
}
