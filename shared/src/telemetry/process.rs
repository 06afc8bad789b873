//! This process's memory, CPU time and open files, read from `/proc` when metrics are scraped. Elsewhere than on Linux
//! they are absent.

use super::metrics::{PROCESS_CPU, PROCESS_FDS, PROCESS_RSS, PROCESS_START};
use std::{
    fs,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

/// The kernel counts CPU time in hundredths of a second on every platform we run on.
const TICKS_PER_SECOND: u64 = 100;

/// Sets the process gauges.
pub fn observe() {
    static STARTED: OnceLock<f64> = OnceLock::new();
    let started = STARTED.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));
    metrics::gauge!(PROCESS_START).set(*started);
    if let Some(rss_kb) = rss_kb() {
        metrics::gauge!(PROCESS_RSS).set(rss_kb as f64 * 1_024.0);
    }
    if let Some(ticks) = cpu_ticks() {
        metrics::counter!(PROCESS_CPU).absolute(ticks / TICKS_PER_SECOND);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        metrics::gauge!(PROCESS_FDS).set(entries.count() as f64);
    }
}

/// Resident memory in KiB.
pub fn rss_kb() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// User and system time; fields 14 and 15, counted behind the command's closing parenthesis.
fn cpu_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}
