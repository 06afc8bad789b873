//! CPU time and memory of whole process trees on this machine: a server and everything it has forked.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::process::growth_percent;

/// Unit of CPU times in /proc; see `process`.
const TICKS_PER_S: f64 = 100.0;
/// Trees are walked again at most this often: reading /proc has a price of its own.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// Looks at memory that are kept: ten minutes' worth, and a wait for the end.
const SAMPLES_MAX: usize = 3_600;

/// What one server and its children used while a run was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TreeUsage {
    pub name: String,
    pub pid: u32,
    /// Processes when the run ended.
    pub n_processes: usize,
    /// 100 is one core fully used.
    pub cpu_percent: f64,
    pub cpu_us_per_job: Option<f64>,
    /// Resident memory at its highest, what the processes share being counted once.
    pub rss_peak_bytes: u64,
    /// Of its memory over the last half of the run, without what the processes share: PostgreSQL's buffers are of a fixed size, and fill.
    /// Null where that is too short to tell.
    pub rss_growth_percent: Option<f64>,
}

/// Watches servers by the pid of their first process.
#[derive(Debug)]
pub(crate) struct TreeWatch {
    trees: Vec<Tree>,
    begun: Instant,
    sampled: Instant,
}

#[derive(Debug)]
struct Tree {
    pid: u32,
    name: String,
    cpu_before_s: f64,
    rss_peak_bytes: u64,
    /// Memory of its own, at even distances.
    own_bytes: Vec<u64>,
}

/// One line of `/proc/<pid>/stat`, as far as it matters.
#[derive(Debug, Clone, Copy)]
struct Process {
    parent: u32,
    /// Of it and of the children it has reaped.
    cpu_s: f64,
}

impl TreeWatch {
    /// Marks the start of the measured time.
    pub(crate) fn begin(pids: &[u32]) -> Self {
        let processes = if pids.is_empty() { HashMap::new() } else { processes() };
        let tree = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
            let members = members(*pid, &processes);
            let memory = memory(&members);
            let cpu_before_s = cpu_s(&members, &processes);
            Tree { pid: *pid, name, cpu_before_s, rss_peak_bytes: memory.rss_bytes(), own_bytes: vec![memory.own_bytes] }
        };
        Self { trees: pids.iter().map(tree).collect(), begun: Instant::now(), sampled: Instant::now() }
    }

    /// Looks at memory if the last look was long enough ago.
    pub(crate) fn sample(&mut self) {
        if self.sampled.elapsed() >= SAMPLE_EVERY && !self.trees.is_empty() {
            self.sampled = Instant::now();
            let processes = processes();
            for tree in &mut self.trees {
                let memory = memory(&members(tree.pid, &processes));
                tree.rss_peak_bytes = tree.rss_peak_bytes.max(memory.rss_bytes());
                if tree.own_bytes.len() < SAMPLES_MAX {
                    tree.own_bytes.push(memory.own_bytes);
                }
            }
        }
    }

    /// What was used since [`TreeWatch::begin`], in all and for each of `n_jobs`.
    pub(crate) fn finish(self, n_jobs: u64) -> Vec<TreeUsage> {
        let elapsed_s = self.begun.elapsed().as_secs_f64();
        let processes = if self.trees.is_empty() { HashMap::new() } else { processes() };
        let usage = |tree: Tree| {
            let members = members(tree.pid, &processes);
            let used_s = (cpu_s(&members, &processes) - tree.cpu_before_s).max(0.0);
            TreeUsage {
                n_processes: members.len(),
                cpu_percent: 100.0 * used_s / elapsed_s,
                cpu_us_per_job: (n_jobs > 0).then(|| used_s * 1e6 / n_jobs as f64),
                rss_peak_bytes: tree.rss_peak_bytes.max(memory(&members).rss_bytes()),
                rss_growth_percent: growth_percent(&tree.own_bytes),
                name: tree.name,
                pid: tree.pid,
            }
        };
        self.trees.into_iter().map(usage).collect()
    }
}

fn processes() -> HashMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, process(pid)?))).collect()
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in parentheses and may hold blanks: count the fields after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let ticks = fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>();
    Some(Process { parent, cpu_s: ticks / TICKS_PER_S })
}

/// The processes of a tree, the first one included.
pub(crate) fn pids_of(root: u32) -> Vec<u32> {
    members(root, &processes())
}

/// `root` and all below it; empty when it is gone.
fn members(root: u32, processes: &HashMap<u32, Process>) -> Vec<u32> {
    let mut members: Vec<u32> = processes.contains_key(&root).then_some(root).into_iter().collect();
    let mut at = 0;
    while let Some(&parent) = members.get(at) {
        members.extend(processes.iter().filter(|(_, process)| process.parent == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    members
}

fn cpu_s(members: &[u32], processes: &HashMap<u32, Process>) -> f64 {
    members.iter().filter_map(|pid| processes.get(pid)).map(|process| process.cpu_s).sum()
}

/// Resident memory of a tree.
struct Memory {
    own_bytes: u64,
    /// Shared by its processes.
    shared_bytes: u64,
}

impl Memory {
    fn rss_bytes(&self) -> u64 {
        self.own_bytes + self.shared_bytes
    }
}

fn memory(members: &[u32]) -> Memory {
    let (mut own, mut shared) = (0, 0);
    for pid in members {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let bytes_of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        let shared_here = bytes_of("RssShmem:").unwrap_or(0);
        own += bytes_of("VmRSS:").unwrap_or(0).saturating_sub(shared_here);
        shared = shared.max(shared_here);
    }
    Memory { own_bytes: own, shared_bytes: shared }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_holds_its_root_and_its_children_and_a_missing_one_nothing() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep is everywhere");
        let usage = TreeWatch::begin(&[own, u32::MAX]).finish(10);
        child.kill().expect("it was started here");
        child.wait().expect("it was started here");
        assert!(usage[0].n_processes >= 2 && usage[0].rss_peak_bytes > 0, "{usage:?}");
        assert_eq!((usage[1].n_processes, usage[1].rss_peak_bytes), (0, 0));
    }
}
