//! The load tester against small TCP servers that answer as told. Timings are never asserted:
//! only what was counted, and which of two durations must be the longer.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod closed_loop;
mod command;
mod ingest;
mod jobs;
mod open_loop;
mod overload;
mod report_shape;
mod rolling;
mod setting_up;
mod several;
mod stub;
mod ws;
mod ws_stub;

use clap::Parser;
use loadtest::http::{self, HttpArgs, Report};
use loadtest::{Error, Output};

use crate::stub::Stub;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    http: HttpArgs,
}

/// Runs `millrace-loadtest http` in this process: one short run on one thread unless `options`
/// say otherwise.
fn measure(stub: &Stub, options: &str) -> Result<Report, Error> {
    let url = stub.url();
    let line = format!("http --url {url} -q --admin-env /nonexistent {}", options.trim());
    let mut words: Vec<&str> = line.split(' ').collect();
    for (option, value) in [("--warmup", "1ms"), ("-d", "400ms"), ("--repeat", "1"), ("-t", "1"), ("--timeout", "20s")] {
        if !words.contains(&option) {
            words.extend([option, value]);
        }
    }
    let args = Command::try_parse_from(words).expect("the options are legal").http;
    let (mut results, mut notes) = (Vec::new(), Vec::new());
    http::run(&args, &mut Output::new(&mut results, &mut notes))
}
