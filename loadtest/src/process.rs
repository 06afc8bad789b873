//! CPU time and memory of processes on this machine, as /proc has them.

use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Unit of CPU times in /proc. The kernel scales them to this for user space on every
/// architecture that Millrace runs on, whatever its own tick is.
const TICKS_PER_S: f64 = 100.0;
/// A part of the last half of a run, at its beginning and at its end, over which memory is averaged to tell growth.
const GROWTH_PART: f64 = 0.1;

/// What processes used while a run was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// 100 is one core fully used.
    pub cpu_percent: f64,
    /// Resident memory when the run ended.
    pub rss_bytes: u64,
    /// Highest resident memory seen during the run.
    pub rss_peak_bytes: u64,
}

/// Watches a set of processes; several pids are added up.
#[derive(Debug)]
pub(crate) struct Watch {
    pids: Vec<u32>,
    begun: Option<(Instant, Duration)>,
    rss_peak_bytes: u64,
}

impl Watch {
    pub(crate) fn new(pids: &[u32]) -> Self {
        Self { pids: pids.to_vec(), begun: None, rss_peak_bytes: 0 }
    }

    /// Watches the load tester itself.
    pub(crate) fn own() -> Self {
        Self::new(&[std::process::id()])
    }

    /// The first of the processes that is not there.
    pub(crate) fn missing_pid(&self) -> Option<u32> {
        self.pids.iter().copied().find(|pid| cpu_time(*pid).is_none())
    }

    /// Marks the start of the measured time.
    pub(crate) fn begin(&mut self) {
        self.begun = self.cpu_time().map(|cpu| (Instant::now(), cpu));
    }

    /// Looks at memory; to be called now and then.
    pub(crate) fn sample(&mut self) {
        self.rss_peak_bytes = self.rss_peak_bytes.max(self.rss_bytes());
    }

    /// What was used since [`Watch::begin`]; None without processes, or when one has gone.
    pub(crate) fn finish(mut self) -> Option<Usage> {
        let (begun, cpu_before) = self.begun?;
        let cpu_after = self.cpu_time()?;
        self.sample();
        let elapsed_s = begun.elapsed().as_secs_f64();
        let used_s = cpu_after.saturating_sub(cpu_before).as_secs_f64();
        Some(Usage { cpu_percent: 100.0 * used_s / elapsed_s, rss_bytes: self.rss_bytes(), rss_peak_bytes: self.rss_peak_bytes })
    }

    fn cpu_time(&self) -> Option<Duration> {
        if self.pids.is_empty() {
            return None;
        }
        self.pids.iter().map(|pid| cpu_time(*pid)).sum()
    }

    /// Resident memory now.
    pub(crate) fn rss_bytes(&self) -> u64 {
        self.pids.iter().filter_map(|pid| rss_bytes(*pid)).sum()
    }
}

/// Growth over the last half of a run, in percent, of memory that was looked at at even distances; None of a run too short to tell.
pub(crate) fn growth_percent(rss_bytes: &[u64]) -> Option<f64> {
    let half = &rss_bytes[rss_bytes.len() / 2..];
    let n_part = (half.len() as f64 * GROWTH_PART).ceil() as usize;
    if half.len() < 10 {
        return None;
    }
    let mean = |looks: &[u64]| looks.iter().sum::<u64>() as f64 / looks.len() as f64;
    let (first, last) = (mean(&half[..n_part]), mean(&half[half.len() - n_part..]));
    (first > 0.0).then(|| 100.0 * (last / first - 1.0))
}

/// The command of a process, as the kernel shortens it; empty when it is gone.
pub(crate) fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in parentheses and may hold blanks: count the fields after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user_ticks: f64 = fields.next()?.parse().ok()?;
    let system_ticks: f64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs_f64((user_ticks + system_ticks) / TICKS_PER_S))
}

fn rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_memory_and_a_missing_one_is_named() {
        let mut watch = Watch::own();
        assert_eq!(watch.missing_pid(), None);
        watch.begin();
        let usage = watch.finish().expect("this process runs");
        assert!(usage.rss_bytes > 0 && usage.rss_peak_bytes > 0);
        assert_eq!(Watch::new(&[u32::MAX]).missing_pid(), Some(u32::MAX));
        assert_eq!(Watch::new(&[]).finish(), None);
    }

    #[test]
    fn growth_is_that_of_the_last_half() {
        let series = |rss: &dyn Fn(u64) -> u64| (0..300).map(rss).collect::<Vec<_>>();
        let settled = series(&|at| 1_000 + at.min(100) * 50);
        assert_eq!(growth_percent(&settled).map(f64::round), Some(0.0));
        assert_eq!(growth_percent(&series(&|at| 10_000 + at * 100)).map(f64::round), Some(53.0));
        assert_eq!(growth_percent(&settled[..12]), None);
    }
}
