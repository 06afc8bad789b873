//! `millrace-loadtest http` over several servers: the command is run as such, since it starts itself again for each share.

use std::process::Command;

use serde_json::Value;

use crate::stub::{Reply, Stub};

/// The row of a run over both, and what the two counted.
fn measure(options: &str, stubs: [&Stub; 2]) -> (Value, [(u64, u64); 2]) {
    let file = std::env::temp_dir().join(format!("millrace-http-{}-{}.json", std::process::id(), options.len()));
    let urls = stubs.map(Stub::url).join(",");
    let line = format!("http --url {urls} {options} --repeat 1 --warmup 1ms -d 200ms --timeout 20s -q --json {}", file.display());
    let output = Command::new(env!("CARGO_BIN_EXE_millrace-loadtest")).args(line.split(' ')).output().unwrap();
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let _ = std::fs::remove_file(&file);
    let report: Value = serde_json::from_str(&text).unwrap();
    (report["rows"][0]["median"].clone(), stubs.map(|stub| (stub.n_connections(), stub.n_requests())))
}

#[test]
fn connections_are_dealt_out_and_figures_added_up() {
    let stubs = [Stub::start(|_| Reply::ok()), Stub::start(|_| Reply::ok())];
    let (figures, [(first, of_first), (second, of_second)]) = measure("-c 5 -t 2", [&stubs[0], &stubs[1]]);
    assert_eq!((first, second), (3, 2));
    let counted = figures["requests"].as_u64().unwrap();
    assert!(of_first > 0 && of_second > 0 && counted > 0 && counted <= of_first + of_second, "{figures}");
    assert_eq!((&figures["statuses"]["200"], &figures["errors"]["total"]), (&figures["requests"], &Value::from(0)));
    assert!(figures["latency_ms"]["p99"].as_f64().unwrap() > 0.0 && figures["schedule"].is_null());
}

#[test]
fn a_schedule_is_kept_by_all_of_them_together() {
    let stubs = [Stub::start(|_| Reply::ok()), Stub::start(|_| Reply::ok())];
    let (figures, _) = measure("-c 4 -t 2 --rate 500", [&stubs[0], &stubs[1]]);
    assert_eq!(figures["schedule"]["offered"], 100, "{figures}");
}

#[test]
fn refusals_of_one_server_are_in_the_sum() {
    let stubs = [Stub::start(|_| Reply::ok()), Stub::start(|_| Reply::json(503, "{}"))];
    let (figures, _) = measure("-c 2 --method GET --path /x", [&stubs[0], &stubs[1]]);
    assert!(figures["statuses"]["200"].as_u64() > Some(0) && figures["statuses"]["503"].as_u64() > Some(0), "{figures}");
    assert_eq!(figures["errors"]["not_2xx"], figures["statuses"]["503"]);
}
