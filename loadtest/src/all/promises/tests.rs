//! Verdicts at the edges of what is promised.

use serde_json::{Value, json};

use super::super::report::Part;
use super::*;

fn part(name: &str, report: Value) -> Part {
    Part { name: name.to_owned(), title: String::new(), command: Vec::new(), elapsed_s: 1.0, failure: None, report }
}

/// A row of the HTTP part.
fn row(connections: u32, rate_per_s: Option<f64>, per_second: f64, [mean, p99]: [f64; 2], n_failed: u64) -> Value {
    let latency = json!({"mean": mean, "p50": mean, "p90": mean, "p99": p99, "p99_9": p99, "max": p99});
    let errors = json!({"total": n_failed, "not_2xx": 0, "timeouts": n_failed, "closed": 0, "malformed": 0, "connect_failures": 0});
    let figures = json!({
        "requests": 1_000 - n_failed, "per_second": per_second, "latency_ms": latency, "refusal_latency_ms": null, "service_time_ms": null,
        "statuses": {"200": 1_000 - n_failed}, "errors": errors, "schedule": null, "reconnects": 0, "connect_ms": 1.0, "unconnected": 0,
        "server": {"cpu_percent": 29.0, "rss_bytes": 1_000_000, "rss_peak_bytes": 150_000_000}, "server_cpu_us_per_request": 1.0, "generator": null,
    });
    let mode = if rate_per_s.is_some() { "open" } else { "closed" };
    json!({"target": "x", "connections": connections, "mode": mode, "rate_per_s": rate_per_s, "median": figures, "runs": [], "reference": null})
}

fn find(judged: &[Judged], what: &str) -> Judged {
    judged.iter().find(|judged| judged.what == what).unwrap_or_else(|| panic!("a promise {what}")).clone()
}

#[test]
fn without_any_part_all_but_what_cannot_be_is_unknown_and_says_why() {
    let judged = judge(Findings(&[]), 1);
    assert!(judged.len() > 35, "{}", judged.len());
    assert!(judged.iter().all(|judged| matches!(judged.verdict, Verdict::NotMeasured | Verdict::Refuted) && judged.why.is_some()));
    assert_eq!(find(&judged, "cache operations").verdict, Verdict::Refuted);
}

#[test]
fn users_are_held_to_rate_mean_and_p99_together() {
    let verdict = |per_second, mean, p99| {
        let parts = [part("ladder", json!({"rows": [row(1_000, None, per_second, [mean, p99], 0)]}))];
        find(&judge(Findings(&parts), 1), "1,000 users").verdict
    };
    assert_eq!(verdict(15_000.0, 19.9, 99.9), Verdict::Met);
    for (per_second, mean, p99) in [(14_999.0, 1.0, 1.0), (15_000.0, 20.0, 1.0), (15_000.0, 1.0, 100.0)] {
        assert_eq!(verdict(per_second, mean, p99), Verdict::Missed, "{per_second}/s, {mean} ms, {p99} ms");
    }
}

#[test]
fn the_top_of_the_ladder_needs_two_servers_and_failures_are_said() {
    let parts = [part("ladder", json!({"rows": [row(1_000, None, 20_000.0, [1.0, 2.0], 6)]}))];
    let judged = judge(Findings(&parts), 1);
    assert!(find(&judged, "24,000 users").why.unwrap().contains("two API processes"));
    assert_eq!(find(&judged, "1,000 users").why.as_deref(), Some("6 requests failed"));
    assert_eq!(find(&judged, "8 workers under 1,000 users").verdict, Verdict::Missed, "99.4 % are not 99.5 %");
    assert_eq!(find(&judged, "4 workers under 1,000 users").verdict, Verdict::Met);
}

#[test]
fn response_times_are_those_at_half_of_the_peak() {
    let rows = json!({"rows": [row(100, None, 90_000.0, [80.0, 900.0], 0), row(100, Some(45_000.0), 45_000.0, [1.0, 50.0], 0)]});
    let judged = judge(Findings(&[part("calls", rows)]), 1);
    let simple = find(&judged, "a simple call");
    assert_eq!((simple.verdict, simple.measured.as_deref()), (Verdict::Met, Some("mean 1.000 ms, p99 50.0 ms")));
}

#[test]
fn a_sustained_rate_is_held_to_cpu_and_memory() {
    let sustained = |cpu_percent: f64| {
        let mut row = row(50, Some(1_000.0), 1_000.0, [1.0, 2.0], 0);
        row["median"]["server"]["cpu_percent"] = json!(cpu_percent);
        let parts = [part("sustained", json!({"rows": [row]}))];
        find(&judge(Findings(&parts), 1), "1,000 jobs a second, sustained").verdict
    };
    assert_eq!((sustained(30.0), sustained(30.1)), (Verdict::Met, Verdict::Missed));
}

#[test]
fn verdicts_of_parts_are_taken_over_and_an_old_build_is_told() {
    let own = json!({"verdicts": [{"promise": "goodput", "measured": "91 %", "is_kept": true}, {"promise": "probes", "measured": "2 s", "is_kept": false}]});
    let failed = Part { failure: Some("unrecognized subcommand 'saturation'".to_owned()), ..part("saturation", Value::Null) };
    let judged = judge(Findings(&[part("overload", own), failed]), 1);
    assert_eq!((find(&judged, "goodput").verdict, find(&judged, "probes").verdict), (Verdict::Met, Verdict::Missed));
    assert!(find(&judged, "connections and pools that run out").why.unwrap().contains("unrecognized"));
}

#[test]
fn what_was_never_full_has_not_recovered() {
    let sockets = |refused: u32| {
        let rows = json!({"rows": [{
            "resource": "sockets", "held": 500, "refused": refused, "refusal": (refused > 0).then_some("503"), "per_second": 900.0,
            "health_max_ms": 3.0, "health_failed": 0, "recovered_after_s": 0.2, "rss_peak_bytes": null, "is_kept": true,
        }]});
        find(&judge(Findings(&[part("saturation", rows)]), 1), "all of sockets taken")
    };
    let full = sockets(20);
    assert_eq!((full.verdict, full.measured.as_deref()), (Verdict::Met, Some("500 held, 20 refused, recovered after 0.200 s")));
    assert_eq!(sockets(0).verdict, Verdict::NotMeasured);
}
