//! Runs the parts, each by a process of this very program: one that fails or hangs costs nobody else anything, and each begins with
//! fresh memory and all of its open files.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
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
/// What is kept of what a part complains of: the end of it.
const COMPLAINT_BYTES: usize = 4_096;
/// How long what a part said may take to come after the part has ended: a process of its own may still hold the other end.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

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
    let said = child.stderr.take().map(listen).transpose()?;
    let (begun, deadline) = (Instant::now(), Instant::now() + 3 * expected + PATIENCE);
    loop {
        if let Some(status) = child.try_wait().map_err(Error::failed)? {
            let tail = said.and_then(|said| said.recv_timeout(LAST_WORDS_WITHIN).ok()).unwrap_or_default();
            return Ok((!status.success()).then(|| complaint(&tail)));
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

/// Reads what a part says while it runs, or a talkative one would wait for a reader for ever; its end comes when the part has ended.
fn listen(stderr: impl Read + Send + 'static) -> Result<Receiver<Vec<u8>>, Error> {
    let (tell, said) = sync_channel(1);
    let read = move || {
        // Nobody may wait for it any more.
        let _ = tell.try_send(tail(stderr));
    };
    std::thread::Builder::new().name("listen".to_owned()).spawn(read).map_err(Error::failed)?;
    Ok(said)
}

/// The last bytes there are.
fn tail(mut from: impl Read) -> Vec<u8> {
    let (mut kept, mut chunk) = (Vec::new(), [0; COMPLAINT_BYTES]);
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return kept,
            Ok(n_read) => {
                kept.extend_from_slice(&chunk[..n_read]);
                kept.drain(..kept.len().saturating_sub(COMPLAINT_BYTES));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // What cannot be read is no reason to lose the figures.
            Err(_) => return kept,
        }
    }
}

/// The last error that a part wrote, else its last line.
fn complaint(tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().rev().find_map(|line| line.strip_prefix("error: ")).or_else(|| text.lines().next_back());
    line.unwrap_or("it ended without a word").to_owned()
}

/// Nobody sends: this is a pause.
fn pause(time: Duration) {
    let (_nobody, nothing) = std::sync::mpsc::sync_channel::<()>(1);
    let _ = nothing.recv_timeout(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_a_part_says_is_kept_however_much_it_was() {
        let line = b"a note of no matter\n";
        let much = line.repeat(50_000);
        let said = [much.as_slice(), b"error: the end\n", line].concat();
        let kept = listen(std::io::Cursor::new(said)).unwrap().recv().unwrap();
        assert_eq!((kept.len(), complaint(&kept)), (COMPLAINT_BYTES, "the end".to_owned()));
        assert_eq!((complaint(b"first\nlast\n"), complaint(b"")), ("last".to_owned(), "it ended without a word".to_owned()));
    }
}
