//! The binary itself: exit codes, messages, streams and files.

use std::process::{Command, Output};

use crate::stub::{Reply, Stub};

fn millrace_loadtest(line: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_millrace-loadtest");
    Command::new(program).args(line.split(' ')).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn bad_arguments_end_with_exit_code_2_and_say_what_is_wrong() {
    let cases = [
        ("nothing", "unrecognized subcommand"),
        ("http --connections 0", "0 is not in 1..=100000"),
        ("http --connections 100001", "100001 is not in 1..=100000"),
        ("http --ladder 100,x", "invalid digit"),
        ("http --ladder 100 -c 5", "cannot be used with"),
        ("http --duration 601s", "at most 600s"),
        ("http --duration soon", "a number with ms, s or m"),
        ("http --rate 0", "0.1 to 10000000"),
        ("http --rate 5 --rate-ladder 5", "cannot be used with"),
        ("http --rate-ladder 99x", "0.01x to 10x"),
        ("http --url https://localhost", "TLS is not spoken"),
        ("http --url localhost", "must begin with http://"),
        ("http --url http://localhost/api", "give the rest as --path"),
        ("http --target everything", "possible values: healthz"),
        ("http --method POST", "--path"),
        ("http --path relative", "must begin with /"),
        ("http --header nonsense", "is not `Name: value`"),
        ("http --header Host:elsewhere", "written by the load tester"),
        ("http --email a@example.org", "--password"),
        ("http --server-pid 4294967295", "there is no process"),
        ("http --url http://192.0.2.1", "--i-own-this-host"),
        ("all --only nothing", "there is no part nothing"),
        ("all --only echo --skip echo", "cannot be used with"),
        ("all --server-pid 4294967295", "there is no process"),
        ("all --url http://192.0.2.1", "--i-own-this-host"),
        ("report /nonexistent", "cannot read /nonexistent"),
        ("report /proc/self/status", "is no report"),
        ("jobs", "Usage"),
        ("queue", "Usage"),
        ("ingest", "Usage"),
        ("ingest flow --rate 0", "0 is not in 1..=10000000"),
        ("ingest store --token t --url http://192.0.2.1", "--i-own-this-host"),
        ("overload --mix 1,2", "three shares"),
        ("overload --loads 2,11", "0.1 to 10"),
        ("overload --token t --url http://192.0.2.1", "--i-own-this-host"),
        ("saturation --max 0", "0 is not in 1..=20000"),
        ("saturation --resources everything", "possible values: http"),
        ("jobs enqueue --bulk 1001", "1001 is not in 1..=1000"),
        ("jobs drain --token t --url http://192.0.2.1", "--i-own-this-host"),
        ("jobs pickup --admin-env /nonexistent", "--email"),
        ("jobs pickup --server-pid 4294967295", "there is no process"),
        ("http --reference-url http://192.0.2.1", "--i-own-this-host"),
        ("ws --max 0", "0 is not in 1..=300000"),
        ("ws --url wss://localhost", "TLS is not spoken"),
        ("ws --url ws://192.0.2.1 --token t", "--i-own-this-host"),
        ("ws --anonymous --token t", "cannot be used with"),
        ("ws --admin-env /nonexistent", "--email"),
        ("ws --tokens /nonexistent", "cannot read"),
        ("ws --namespace a:b --token t", "--namespace"),
        ("ws echo --server-pid 4294967295", "there is no process"),
        ("ws fan-out --rate 1 --window 2", "cannot be used with"),
        ("ws fan-out --channels 3 --publishers 2", "--publishers must be"),
        ("ws stuck -n 2 --channels 3", "--subscribers must be"),
        ("ws-client", "for the load tester itself"),
    ];
    for (line, expected) in cases {
        let output = millrace_loadtest(line);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(expected), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn a_server_that_is_not_there_is_exit_code_1() {
    // Port 1 is reserved, and nothing listens there.
    let output = millrace_loadtest("http --url http://127.0.0.1:1 -d 100ms --warmup 1ms");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot connect"), "{}", stderr(&output));
}

#[test]
fn the_table_goes_to_stdout_and_all_figures_to_the_json_file_without_secrets() {
    let stub = Stub::start(|_| Reply::ok());
    let file = std::env::temp_dir().join(format!("millrace-loadtest-{}.json", std::process::id()));
    let output = millrace_loadtest(&format!(
        "http --url {} --target me --token s3cret -d 100ms --warmup 1ms --repeat 1 -c 2 --json {}",
        stub.url(),
        file.display()
    ));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("p99.9") && table.contains("\nme "), "{table}");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(!text.contains("s3cret"));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["rows"][0]["target"], "me");
    assert_eq!(report["rows"][0]["connections"], 2);
}

#[test]
fn quiet_writes_the_table_and_nothing_else() {
    let stub = Stub::start(|_| Reply::ok());
    let url = stub.url();
    let output = millrace_loadtest(&format!("http --url {url} -q -d 50ms --warmup 1ms -c 1 -t 64"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
    assert!(!output.stdout.is_empty());
}

#[test]
fn rows_measured_before_a_failure_are_shown_and_the_exit_code_is_1() {
    // Without a 2xx response there is no peak to take multiples of.
    let stub = Stub::start(|_| Reply::json(503, "{}"));
    let url = stub.url();
    let line = format!("http --url {url} --rate-ladder 50,2x -c 1 -d 50ms --warmup 1ms");
    let output = millrace_loadtest(&line);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no peak"), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    let n_rows = table.lines().filter(|line| line.starts_with("healthz  ")).count();
    assert_eq!(n_rows, 2, "{table}");
}
