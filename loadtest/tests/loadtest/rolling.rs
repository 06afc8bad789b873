//! `millrace-loadtest rolling` against a small server. It is run as such, since it starts itself again for the sockets.

use std::process::Command;

use crate::stub::{Reply, Stub};

#[test]
fn queues_are_taken_away_when_it_fails_too() {
    // There is nobody at the place of sockets.
    let stub = Stub::start(|request| match request.line.contains("/queues/") {
        true => Reply::json(200, r#"{"stats":{"queued":0},"removed":0}"#),
        false => Reply::json(404, "{}"),
    });
    let line = format!("rolling --url {} --token t --sockets 1 --timeout 1s -q -- true", stub.url());
    let output = Command::new(env!("CARGO_BIN_EXE_millrace-loadtest")).args(line.split(' ')).output().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let removed = stub.lines().iter().filter(|line| line.starts_with("DELETE /api/v1/queues/rolling-")).count();
    assert_eq!(removed, 2, "{:?}", stub.lines());
}
