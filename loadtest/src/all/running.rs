//! Runs the parts, each by a process of this very program: one that fails or hangs costs nobody else anything, and each begins with
//! fresh memory and all of its open files.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::AllArgs;
use super::parts::Planned;
use super::report::Part;
use crate::error::Error;
use crate::http::masked;
use crate::progress::PartsDisplay;

/// How often a part is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A part that takes so much longer than expected is ended: it would hold up all others for ever.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is kept of what a part complains of.
const COMPLAINT_BYTES: u64 = 4_096;

/// Runs all of `parts`, and tells what became of each.
pub(super) fn run(parts: &[Planned], args: &AllArgs, display: &PartsDisplay) -> Result<Vec<Part>, Error> {
    parts.iter().enumerate().map(|(part_idx, planned)| run_one(planned, part_idx, args, display)).collect()
}

fn run_one(planned: &Planned, part_idx: usize, args: &AllArgs, display: &PartsDisplay) -> Result<Part, Error> {
    let file = std::env::temp_dir().join(format!("millrace-all-{}-{}.json", std::process::id(), planned.name));
    let words = planned.command(args);
    display.begin(part_idx, planned.title);
    let begun = Instant::now();
    let failure = make(&words, &file, planned.expected, display)?;
    let report = std::fs::read(&file).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or(Value::Null);
    // It may never have been there.
    let _ = std::fs::remove_file(&file);
    display.end(planned.title, failure.as_deref());
    Ok(Part {
        name: planned.name.to_owned(),
        title: planned.title.to_owned(),
        command: masked(words),
        elapsed_s: begun.elapsed().as_secs_f64(),
        failure,
        report,
    })
}

/// `None` when all went well, else what the part said.
fn make(words: &[String], file: &Path, expected: Duration, display: &PartsDisplay) -> Result<Option<String>, Error> {
    let program = std::env::current_exe().map_err(Error::failed)?;
    let mut command = Command::new(program);
    command.args(words).arg("-q").arg("--json").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Error::failed(format!("cannot start a part: {error}")))?;
    let (begun, deadline) = (Instant::now(), Instant::now() + 3 * expected + PATIENCE);
    loop {
        if let Some(status) = child.try_wait().map_err(Error::failed)? {
            let said = complaint(&mut child);
            return Ok((!status.success()).then_some(said));
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(Some(format!("not done within {} s", (3 * expected + PATIENCE).as_secs())));
        }
        display.advance(begun.elapsed());
        pause(LOOK_EVERY);
    }
}

/// The last of what it wrote to standard error, without what cargo's name for an error adds.
fn complaint(child: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = &mut child.stderr {
        // What cannot be read is no reason to lose the figures.
        let _ = stderr.take(COMPLAINT_BYTES).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find_map(|line| line.strip_prefix("error: ")).or_else(|| text.lines().next());
    line.unwrap_or("it ended without a word").to_owned()
}

/// Nobody sends: this is a pause.
fn pause(time: Duration) {
    let (_nobody, nothing) = std::sync::mpsc::sync_channel::<()>(1);
    let _ = nothing.recv_timeout(time);
}
