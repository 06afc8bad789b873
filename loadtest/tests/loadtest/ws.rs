//! `millrace-loadtest ws` against a small server in this process. The command is run as such, since it starts itself again
//! for the processes that hold the sockets.

use std::process::{Command, Output};

use serde_json::Value;

use crate::ws_stub::{Fault, WsStub};

struct Measured {
    output: Output,
    report: Value,
}

impl Measured {
    fn notes(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn fan_out(&self) -> &Value {
        &self.report["outcome"]["fan_out"]["runs"][0]
    }

    fn ledger(&self, figure: &str) -> u64 {
        self.fan_out()["ledger"][figure].as_u64().unwrap()
    }
}

/// Runs `ws` once, without a token.
fn measure(stub: &WsStub, options: &str) -> Measured {
    let file = std::env::temp_dir().join(format!("millrace-ws-{}-{}.json", std::process::id(), stub.url().replace(['/', ':'], "-")));
    let line = format!("ws {options} --url {} --anonymous --repeat 1 --timeout 20s --json {}", stub.url(), file.display());
    let output = Command::new(env!("CARGO_BIN_EXE_millrace-loadtest")).args(line.split(' ')).output().unwrap();
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| "null".to_owned());
    let _ = std::fs::remove_file(&file);
    Measured { output, report: serde_json::from_str(&text).unwrap() }
}

/// So many publications to four subscribers of one channel, as fast as they arrive.
fn fan_out(stub: &WsStub, n_publications: u32) -> Measured {
    measure(stub, &format!("fan-out -n 4 --publications {n_publications} --window 4 --warmup 1ms -d 20s"))
}

#[test]
fn every_subscriber_gets_every_offset_once_in_order_from_a_sound_server() {
    let stub = WsStub::start(Fault::None);
    let measured = fan_out(&stub, 50);
    assert!(measured.output.status.success(), "{}", measured.notes());
    assert_eq!(measured.fan_out()["acknowledged"], 50);
    assert_eq!((measured.ledger("received"), measured.ledger("lost")), (200, 0));
    assert_eq!(measured.fan_out()["ledger"]["is_whole"], true);
}

#[test]
fn what_a_server_loses_doubles_or_swaps_unbalances_the_ledger() {
    let cases = [
        (Fault::LosesOne, "lost", 1),
        (Fault::DoublesOne, "duplicates", 1),
        (Fault::SwapsTwo, "out_of_order", 1),
        (Fault::SwallowsOne, "lost_to_all", 1),
    ];
    for (fault, figure, expected) in cases {
        let stub = WsStub::start(fault);
        let measured = fan_out(&stub, 50);
        assert_eq!(measured.output.status.code(), Some(1), "{fault:?}");
        assert!(measured.notes().contains("do not balance"), "{fault:?}: {}", measured.notes());
        assert_eq!(measured.ledger(figure), expected, "{fault:?}");
    }
}

#[test]
fn a_loss_at_the_very_end_is_seen_by_comparing_subscribers() {
    let stub = WsStub::start(Fault::LosesOne);
    let measured = measure(&stub, "fan-out -n 4 --publications 6 --window 4 --warmup 1ms -d 1s --settle 100ms");
    assert_eq!((measured.ledger("lost"), measured.ledger("lost_at_the_end")), (1, 1));
    assert_eq!(measured.output.status.code(), Some(1));
}

#[test]
fn announced_gaps_are_counted_apart_and_break_nothing() {
    for (fault, insufficient) in [(Fault::AnnouncesAGap, 1), (Fault::ClosesInsufficient, 1)] {
        let stub = WsStub::start(fault);
        let measured = fan_out(&stub, 50);
        assert!(measured.output.status.success(), "{fault:?}: {}", measured.notes());
        assert_eq!((measured.ledger("lost"), measured.ledger("announced_gaps")), (0, 1), "{fault:?}");
        assert_eq!(measured.ledger("insufficient_state"), insufficient, "{fault:?}");
        assert!(measured.ledger("announced_missing") >= 1, "{fault:?}");
    }
}

#[test]
fn a_closed_subscriber_comes_back_and_what_it_recovers_counts() {
    let stub = WsStub::start(Fault::ClosesAndRecovers);
    let measured = fan_out(&stub, 50);
    assert!(measured.output.status.success(), "{}", measured.notes());
    assert_eq!((measured.ledger("received"), measured.ledger("lost")), (200, 0));
    assert!(measured.ledger("recovered") >= 1);
    assert_eq!(measured.fan_out()["closes"]["3001"], 1);
    assert_eq!(measured.fan_out()["reconnects"], 1);
}

#[test]
fn refused_publications_are_told_and_end_the_run_all_the_same() {
    let stub = WsStub::start(Fault::RefusesToPublish);
    let measured = fan_out(&stub, 10);
    assert_eq!(measured.fan_out()["refused"]["error 103"], 10);
    assert_eq!(measured.fan_out()["acknowledged"], 0);
}

#[test]
fn publications_go_over_http_on_a_schedule_too() {
    let stub = WsStub::start(Fault::None);
    let options = "fan-out -n 4 --clients 2 --rate 200 --publish-by http --publications 20 --publishers 2 --warmup 1ms -d 10s";
    let measured = measure(&stub, options);
    assert!(measured.output.status.success(), "{}", measured.notes());
    assert_eq!((measured.ledger("received"), measured.fan_out()["acknowledged"].as_u64()), (80, Some(20)));
    let n_posts = stub.seen().iter().filter(|line| line.starts_with("POST /api/v1/channels/chat:load-")).count();
    assert_eq!(n_posts, 20);
}

#[test]
fn echo_is_held_against_the_reference() {
    let stub = WsStub::start(Fault::None);
    let measured = measure(&stub, &format!("echo -c 3 -d 200ms --warmup 1ms --reference-url {}", stub.url()));
    assert!(measured.output.status.success(), "{}", measured.notes());
    let echo = &measured.report["outcome"]["echo"];
    assert!(echo["runs"][0]["replies"].as_u64() > Some(0) && echo["reference_runs"][0]["replies"].as_u64() > Some(0));
    assert!(echo["ratio"].as_f64() > Some(0.0));
    assert!(!stub.seen().iter().any(|command| command.contains("subscribe")), "an echo needs no channel");
}

#[test]
fn the_reference_fans_out_what_its_one_publisher_numbers() {
    let stub = WsStub::start(Fault::None);
    let options = format!("fan-out -n 4 --clients 2 --publications 40 --warmup 1ms -d 1s --reference-url {}", stub.url());
    let measured = measure(&stub, &options);
    assert!(measured.output.status.success(), "{}", measured.notes());
    let reference = &measured.report["outcome"]["fan_out"]["reference_runs"][0];
    assert_eq!((&reference["ledger"]["received"], &reference["publishers"]), (&160.into(), &1.into()));
}

#[test]
fn the_ramp_opens_step_by_step_and_says_what_a_worker_may_hold() {
    let stub = WsStub::start(Fault::None);
    let pid = std::process::id();
    let measured = measure(&stub, &format!("--max 10 --step 4 --channels 2 --hold 50ms --soak 60ms --workers 2 --server-pid {pid}"));
    assert!(measured.output.status.success(), "{}", measured.notes());
    let run = &measured.report["outcome"]["capacity"]["runs"][0];
    let sockets: Vec<u64> = run["steps"].as_array().unwrap().iter().map(|step| step["sockets"].as_u64().unwrap()).collect();
    assert_eq!(sockets, [4, 8, 10]);
    assert_eq!(run["sustained"].as_u64().map(|sustained| sustained >= 4), Some(true));
}

#[test]
fn sockets_that_are_refused_are_failures_with_their_cause() {
    for (fault, cause) in [(Fault::IsFull, "the upgrade was answered 503"), (Fault::RefusesToSubscribe, "subscribe: error 103")] {
        let stub = WsStub::start(fault);
        let measured = measure(&stub, "capacity --max 3 --step 3 --hold 10ms --soak 10ms");
        let step = &measured.report["outcome"]["capacity"]["runs"][0]["steps"][0];
        assert_eq!((&step["failed"], &step["causes"][cause]), (&3.into(), &3.into()), "{fault:?}: {step}");
    }
}

#[test]
fn a_stuck_reader_is_no_subscriber_of_the_ledger() {
    let stub = WsStub::start(Fault::None);
    let measured = measure(&stub, "stuck -n 3 --stuck 1 --publications 10 --rate 100 --warmup 1ms -d 5s");
    assert!(measured.output.status.success(), "{}", measured.notes());
    let stuck = &measured.report["outcome"]["stuck"];
    assert_eq!((&stuck["with"][0]["ledger"]["received"], &stuck["with"][0]["ledger"]["lost"]), (&30.into(), &0.into()));
    assert_eq!(stuck["with"][0]["stuck"][0]["is_closed"], false, "this server lets it be");
    assert!(stuck["p99_ratio"].as_f64() > Some(0.0));
}
