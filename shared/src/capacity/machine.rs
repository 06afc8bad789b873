//! What this machine lets a process have: cores, memory and open files, after the limits of its container.

use serde::Serialize;
use std::{fs, path::Path, thread};
use utoipa::ToSchema;

/// Files of the kernel are short; more than this is no such file.
const CGROUP_DEPTH_MAX: usize = 32;

/// One machine, or the container on it that we run in.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Machine {
    /// Cores that may be used: those of the machine, less what affinity and the container's CPU limit take away.
    pub cores: u32,
    /// The container's CPU limit in cores; `null` without one.
    #[schema(required)]
    pub cpu_limit: Option<f64>,
    /// Memory that may be used: that of the machine, or the container's limit if it is lower. `null` where the system does not tell.
    #[schema(required)]
    pub memory_bytes: Option<u64>,
    /// Whether `memory_bytes` is a container's limit.
    pub is_memory_limited: bool,
    /// Part of it that is in use, by everybody; the kernel's caches do not count. 0 to 100.
    #[schema(required)]
    pub memory_percent: Option<f64>,
    /// Files and sockets that this process may have open.
    #[schema(required)]
    pub open_files_max: Option<u64>,
    /// What it may raise that to.
    #[schema(required)]
    pub open_files_hard_max: Option<u64>,
}

/// Limits of the container, as its control groups have them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Limits {
    cpu_cores: Option<f64>,
    memory_bytes: Option<u64>,
    memory_used_bytes: Option<u64>,
}

impl Machine {
    /// Reads what the kernel says. What it does not say is `None`, as everywhere but on Linux.
    pub fn read() -> Self {
        let limits = Limits::read(Path::new("/sys/fs/cgroup"), &text("/proc/self/cgroup"));
        let meminfo = text("/proc/meminfo");
        let total = kib(&meminfo, "MemTotal:");
        let limited = limits.memory_bytes.filter(|limit| total.is_none_or(|total| *limit < total));
        let (files, files_hard) = open_files(&text("/proc/self/limits"));
        let used_percent = match (limited, limits.memory_used_bytes) {
            (Some(limit), Some(used)) => Some(100.0 * used as f64 / limit as f64),
            _ => total.zip(kib(&meminfo, "MemAvailable:")).map(|(total, free)| 100.0 * (1.0 - free as f64 / total as f64)),
        };
        Self {
            cores: cores(),
            cpu_limit: limits.cpu_cores,
            memory_bytes: limited.or(total),
            is_memory_limited: limited.is_some(),
            memory_percent: used_percent.map(rounded),
            open_files_max: files,
            open_files_hard_max: files_hard,
        }
    }
}

/// Affinity and the CPU limits of control groups are in it.
fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

impl Limits {
    /// The tightest limits from our own group up to the root; `own_groups` is `/proc/self/cgroup`.
    fn read(root: &Path, own_groups: &str) -> Self {
        let mut limits = Self::default();
        let unified = own_groups.lines().find_map(|line| line.strip_prefix("0::"));
        let folder = root.join(unified.unwrap_or("/").trim_start_matches('/'));
        for folder in folder.ancestors().take(CGROUP_DEPTH_MAX).take_while(|folder| folder.starts_with(root)) {
            let number = |name: &str| text(folder.join(name)).trim().parse::<u64>().ok();
            if let Some(limit) = number("memory.max")
                && limits.memory_bytes.is_none_or(|least| limit < least)
            {
                (limits.memory_bytes, limits.memory_used_bytes) = (Some(limit), number("memory.current"));
            }
            if let Some(cores) = quota(&text(folder.join("cpu.max"))) {
                limits.cpu_cores = Some(limits.cpu_cores.map_or(cores, |least| least.min(cores)));
            }
        }
        limits.or_version_1(root)
    }

    /// Control groups of the first version show a container its own limits at the root.
    fn or_version_1(mut self, root: &Path) -> Self {
        let number = |name: &str| text(root.join(name)).trim().parse::<u64>().ok();
        if self.memory_bytes.is_none() {
            self.memory_bytes = number("memory/memory.limit_in_bytes");
            self.memory_used_bytes = number("memory/memory.usage_in_bytes");
        }
        if self.cpu_cores.is_none() {
            let (quota_us, period_us) = (text(root.join("cpu/cpu.cfs_quota_us")), text(root.join("cpu/cpu.cfs_period_us")));
            self.cpu_cores = quota(&format!("{} {}", quota_us.trim(), period_us.trim()));
        }
        self
    }
}

/// `150000 100000` is one and a half cores, `max 100000` and `-1 100000` no limit.
fn quota(cpu_max: &str) -> Option<f64> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| rounded(quota / period))
}

/// Soft and hard limit of `/proc/self/limits`.
fn open_files(limits: &str) -> (Option<u64>, Option<u64>) {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut numbers = line.unwrap_or_default().split_whitespace().map(|number| number.parse().ok());
    (numbers.next().flatten(), numbers.next().flatten())
}

/// A line of `/proc/meminfo`, in bytes.
fn kib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1_024)
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// One digit is all that such a figure means.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_memory_and_files() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(machine.open_files_max <= machine.open_files_hard_max && machine.open_files_max.is_some());
    }

    #[test]
    fn the_tightest_limit_of_the_groups_above_us_counts() {
        let root = std::env::temp_dir().join(format!("millrace-{}", uuid::Uuid::new_v4()));
        let own = root.join("pod/container");
        fs::create_dir_all(&own).unwrap();
        for (file, content) in [("memory.max", "max\n"), ("memory.current", "1\n"), ("cpu.max", "max 100000\n")] {
            fs::write(own.join(file), content).unwrap();
        }
        for (file, content) in [("memory.max", "536870912\n"), ("memory.current", "134217728\n"), ("cpu.max", "150000 100000\n")] {
            fs::write(root.join("pod").join(file), content).unwrap();
        }
        let limits = Limits::read(&root, "0::/pod/container\n");
        fs::remove_dir_all(&root).unwrap();
        let expected = Limits { cpu_cores: Some(1.5), memory_bytes: Some(536_870_912), memory_used_bytes: Some(134_217_728) };
        assert_eq!(limits, expected);
    }

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        assert_eq!([quota("max 100000"), quota("-1 100000"), quota("50000 100000"), quota("")], [None, None, Some(0.5), None]);
        let limits = "Limit  Soft  Hard  Units\nMax open files            1024                 20000                files\n";
        assert_eq!((open_files(limits), open_files("")), ((Some(1_024), Some(20_000)), (None, None)));
        assert_eq!(kib("MemTotal:       2 kB\n", "MemTotal:"), Some(2_048));
    }
}
