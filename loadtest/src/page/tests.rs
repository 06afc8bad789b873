//! Pages of reports that were made up: with all of it, and with nothing.

use serde_json::json;

use super::page;
use crate::all::AllReport;

fn report(promises: serde_json::Value, parts: serde_json::Value) -> AllReport {
    let report = json!({
        "tool": "millrace-loadtest", "version": "0", "command": [], "date": "2026-01-01T00:00:00Z",
        "machine": {"cores": 4, "cpu": "<b>CPU</b>", "memory_bytes": 1024, "kernel": null},
        "urls": ["http://127.0.0.1:1"], "is_quick": true, "promises": promises, "decisions": [], "undecided": "no <answer>", "parts": parts,
    });
    serde_json::from_value(report).expect("a report as it is written")
}

#[test]
fn a_report_of_nothing_is_a_page_all_the_same() {
    let html = page(&report(json!([]), json!([])));
    assert!(html.starts_with("<!doctype html>") && html.contains("0 met") && !html.contains("<svg"), "{html}");
    assert!(html.contains("&lt;b&gt;CPU") && html.contains("no &lt;answer&gt;") && !html.contains("<b>"));
}

#[test]
fn nothing_is_fetched_and_nothing_runs() {
    let promises = json!([{"group": "G", "what": "<img src=x>", "promised": "1", "measured": "2", "verdict": "refuted", "why": "because"}]);
    let html = page(&report(promises, json!([])));
    for foreign in ["<script", "<img", "<link", "src=", "url(", "@import", "http-equiv=\"refresh\""] {
        assert!(!html.replace("&lt;img src=x&gt;", "").contains(foreign), "{foreign}");
    }
    assert!(html.contains("<span class=\"verdict refuted\">refuted</span>") && html.contains("<small>because</small>"));
}

#[test]
fn a_part_that_failed_or_is_of_another_build_costs_its_own_charts_alone() {
    let figures = json!({
        "requests": 50, "per_second": 5.0, "latency_ms": null, "refusal_latency_ms": null, "service_time_ms": null, "statuses": {"200": 50},
        "errors": {"total": 0, "not_2xx": 0, "timeouts": 0, "closed": 0, "malformed": 0, "connect_failures": 0}, "schedule": null,
        "reconnects": 0, "connect_ms": 1.0, "unconnected": 0, "server": null, "server_cpu_us_per_request": null, "generator": null,
    });
    let probed = json!({"probes": 1, "failed": 0, "latency_ms": null});
    let load = json!({
        "times_peak": 2.0, "rate_per_s": 10.0, "goodput_per_s": 5.0, "goodput_share": 1.0, "shed_per_s": 5.0, "shed_decided_p99_ms": 1.0,
        "health": probed, "readiness": probed, "recovered_after_s": 0.1, "figures": figures,
    });
    let parts = json!([
        {"name": "ladder", "title": "Ladder", "command": ["http"], "elapsed_s": 1.0, "failure": "no connection", "report": null},
        {"name": "overload", "title": "Overload", "command": ["overload"], "elapsed_s": 1.0, "failure": null,
         "report": {"loads": [load]}},
        {"name": "files", "title": "Files", "command": ["files"], "elapsed_s": 1.0, "failure": null, "report": {"steps": "not as today"}},
    ]);
    let html = page(&report(json!([]), parts));
    assert_eq!(html.matches("<svg").count(), 1);
    assert!(html.contains("no connection") && html.contains("2×"));
}
