//! A large file, imported: how fast, how it is told, and what memory the worker takes for it. The file is made while it is sent.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{ImportArgs, IngestArgs};
use super::platform::Platform;
use crate::columns::grouped;
use crate::error::Error;
use crate::output::Output;
use crate::process::name_of;
use crate::process_tree::pids_of;
use crate::ws::Follower;

/// Lines that are made and sent at once.
const LINES_AT_ONCE: u64 = 1_000;
/// Between two looks at the worker's memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const BOUNDARY: &str = "millrace-loadtest-boundary";
const MIB: f64 = 1_048_576.0;

/// Makes a track, uploads a file of its points, imports it, and waits until they are stored.
pub(super) fn run(
    args: &IngestArgs,
    how: &ImportArgs,
    peer: SocketAddr,
    platform: &mut Platform,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let track = platform.make_tracks(1, "import")?.remove(0);
    let file = Lines { track: &track, n_lines: (u64::from(how.megabytes) * 1_000_000).div_ceil(line(&track, 0).len() as u64) };
    output.note(&format!("{} lines, {} MB", grouped(file.n_lines as f64), how.megabytes))?;
    let token = platform.token(how.within)?;
    let begun = Instant::now();
    let file_id = upload(peer, &args.url.authority(), &token, &file)?;
    let uploaded_s = begun.elapsed().as_secs_f64();
    let imported = follow(args, how, peer, platform, &token, &file_id, output)?;
    let n_stored = platform.until_stored_of(std::slice::from_ref(&track), file.n_lines, Instant::now() + how.within)?;
    let stored_s = imported.begun.elapsed().as_secs_f64();
    let n_accepted = imported.result["accepted"].as_u64().unwrap_or(0);
    let per_s = |seconds: f64| grouped(file.n_lines as f64 / seconds);
    output.result(&format!("uploaded in {uploaded_s:.2} s ({:.0} MB/s)", f64::from(how.megabytes) / uploaded_s))?;
    output.result(&format!("imported in {:.2} s ({} points/s)", imported.seconds, per_s(imported.seconds)))?;
    output.result(&format!("stored after {stored_s:.2} s ({} points/s)", per_s(stored_s)))?;
    let Told { n_progress, first_s, longest_gap_s, .. } = imported.told;
    output.result(&format!("progress told {n_progress} times, first after {first_s:.2} s, at most {longest_gap_s:.2} s apart"))?;
    for memory in &imported.memory {
        output.result(&memory.line())?;
    }
    if !args.keep {
        platform.delete_tracks(std::slice::from_ref(&track))?;
        platform.delete_file(&file_id)?;
    }
    match (n_accepted, n_stored) == (file.n_lines, file.n_lines) {
        true => Ok(()),
        false => Err(Error::failed(format!("of {} points {n_accepted} were accepted and {n_stored} are stored", file.n_lines))),
    }
}

/// A file of lines that are all equally long, so that its size is known before it is made.
struct Lines<'a> {
    track: &'a str,
    n_lines: u64,
}

fn line(track: &str, at: u64) -> String {
    let time = 1_767_225_600 + at;
    let (day, second) = (time / 86_400, time % 86_400);
    // From 2026-01-01 on, in as many days of January as there are, over and over a year later.
    let day_of_file = day - 1_767_225_600 / 86_400;
    let (year, day) = (2_026 - day_of_file / 28, day_of_file % 28 + 1);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let (lat, speed) = (at % 1_000_000, at % 10);
    format!(
        "{{\"track_id\":\"{track}\",\"recorded_at\":\"{year}-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z\",\
         \"lat\":40.{lat:06},\"lon\":13.405,\"speed_mps\":{speed}.5}}\n"
    )
}

impl Lines<'_> {
    fn write_to(&self, stream: &mut impl Write) -> std::io::Result<()> {
        let mut at = 0;
        while at < self.n_lines {
            let end = (at + LINES_AT_ONCE).min(self.n_lines);
            let block: String = (at..end).map(|at| line(self.track, at)).collect();
            stream.write_all(block.as_bytes())?;
            at = end;
        }
        Ok(())
    }
}

/// Sends the file as a form; the id that it got.
fn upload(peer: SocketAddr, authority: &str, token: &str, file: &Lines<'_>) -> Result<String, Error> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"import.ndjson\"\r\n\
         Content-Type: application/x-ndjson\r\n\r\n"
    );
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    let length = head.len() as u64 + file.n_lines * line(file.track, 0).len() as u64 + tail.len() as u64;
    let mut stream = TcpStream::connect(peer).map_err(Error::failed)?;
    let sent = (|| {
        write!(
            stream,
            "POST /api/v1/files HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n{head}"
        )?;
        file.write_to(&mut stream)?;
        stream.write_all(tail.as_bytes())
    })();
    // One that refuses says why before it has read all, and breaks off.
    let mut answer = Vec::new();
    let read = BufReader::new(stream).read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    match serde_json::from_str::<Value>(body).ok().and_then(|body| body["id"].as_str().map(str::to_owned)) {
        Some(id) if answer.starts_with("HTTP/1.1 201") => Ok(id),
        _ => {
            let broke = sent.err().or(read.err()).map(|error| format!(" ({error})")).unwrap_or_default();
            Err(Error::failed(format!("the upload was answered{broke}: {}", answer.chars().take(600).collect::<String>())))
        }
    }
}

/// What became of the job.
struct Imported {
    begun: Instant,
    seconds: f64,
    result: Value,
    told: Told,
    memory: Vec<Memory>,
}

/// What was published on the job's channel.
#[derive(Debug, Default)]
struct Told {
    n_progress: u32,
    first_s: f64,
    longest_gap_s: f64,
    last_s: f64,
}

impl Told {
    fn note(&mut self, at_s: f64) {
        if self.n_progress == 0 {
            self.first_s = at_s;
        } else {
            self.longest_gap_s = self.longest_gap_s.max(at_s - self.last_s);
        }
        self.n_progress += 1;
        self.last_s = at_s;
    }
}

/// Submits the import, and follows its channel until it ends.
fn follow(
    args: &IngestArgs,
    how: &ImportArgs,
    peer: SocketAddr,
    platform: &mut Platform,
    token: &str,
    file_id: &str,
    output: &mut Output<'_>,
) -> Result<Imported, Error> {
    let mut follower = Follower::connect(peer, &args.url.authority(), token)?;
    let pids: Vec<u32> = args.server_pid.iter().flat_map(|pid| pids_of(*pid)).collect();
    let mut memory: Vec<Memory> = pids.into_iter().map(Memory::new).collect();
    // A moment to subscribe in: what is told before is told to nobody.
    let job_id = platform.submit(&json!({"kind": "tracks.import", "payload": {"file_id": file_id}, "delay_ms": 300}))?;
    follower.subscribe(&format!("job:{job_id}"))?;
    let (mut begun, mut told) = (Instant::now(), Told::default());
    let deadline = Instant::now() + how.within;
    loop {
        memory.iter_mut().for_each(Memory::look);
        if Instant::now() > deadline {
            return Err(Error::failed("the import did not end in time"));
        }
        let Some(event) = follower.next(Instant::now() + LOOK_EVERY)? else { continue };
        match event["event"].as_str().unwrap_or_default() {
            "started" => begun = Instant::now(),
            "progress" => {
                told.note(begun.elapsed().as_secs_f64());
                let progress = &event["progress"];
                let percent = progress["percent"].as_f64().unwrap_or(0.0);
                output.note(&format!("{percent:5.1} %  {}", progress["message"].as_str().unwrap_or_default()))?;
            }
            "succeeded" => {
                let seconds = begun.elapsed().as_secs_f64();
                return Ok(Imported { begun, seconds, result: platform.result_of(&job_id)?, told, memory });
            }
            "dead" | "cancelled" | "expired" => return Err(Error::failed(format!("the import failed: {event}"))),
            _ => {}
        }
    }
}

/// Of one process, in KiB.
#[derive(Debug)]
struct Memory {
    pid: u32,
    name: String,
    before: u64,
    peak: u64,
}

impl Memory {
    fn new(pid: u32) -> Self {
        let before = kib(pid, "VmRSS:");
        Self { pid, name: name_of(pid), before, peak: before }
    }

    fn look(&mut self) {
        self.peak = self.peak.max(kib(self.pid, "VmRSS:"));
    }

    fn line(&self) -> String {
        let mib = |kib: u64| kib as f64 * 1_024.0 / MIB;
        let (before, peak, ever) = (mib(self.before), mib(self.peak), mib(kib(self.pid, "VmHWM:")));
        format!("{} ({}): {before:.1} MiB before, {peak:.1} MiB at most, {ever:.1} MiB ever", self.name, self.pid)
    }
}

fn kib(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn lines_are_equally_long_and_each_is_another_second() {
        let track = "01a1fb40-f998-71ea-83d1-3bd51ccbb3da";
        let ats = (0..10_000).chain((1..2_000).map(|day| day * 86_399));
        let lines: BTreeSet<String> = ats.clone().map(|at| line(track, at)).collect();
        assert_eq!(lines.len(), ats.collect::<BTreeSet<u64>>().len());
        assert!(lines.iter().all(|text| text.len() == line(track, 0).len() && serde_json::from_str::<Value>(text).is_ok()));
    }
}
