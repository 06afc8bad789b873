//! The machine that a measurement was made on, and how many files it lets a process open.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Open files beside the connections: standard streams, event loops, timers, the report.
const SPARE_FILES: u64 = 64;

/// What a reader must know to compare figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub cores: usize,
    pub cpu: Option<String>,
    pub memory_bytes: Option<u64>,
    pub kernel: Option<String>,
}

impl Machine {
    /// Reads what the kernel says of this machine; what it does not say is None.
    pub(crate) fn read() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Self {
            cores: n_cores(),
            cpu: value_in("/proc/cpuinfo", "model name"),
            memory_bytes: value_in("/proc/meminfo", "MemTotal").and_then(|value| {
                let kib: u64 = value.split(' ').next()?.parse().ok()?;
                Some(kib * 1024)
            }),
            kernel: kernel.map(|text| text.trim().to_owned()),
        }
    }

    /// One line for the head of a report.
    pub(crate) fn summary(&self) -> String {
        let mut parts = vec![format!("{} cores", self.cores)];
        parts.extend(self.cpu.clone());
        parts.extend(self.kernel.as_ref().map(|kernel| format!("Linux {kernel}")));
        parts.join(" · ")
    }
}

pub(crate) fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn value_in(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Raises this process's limit of open files as far as `connections` need and the system allows.
pub(crate) fn allow_connections(connections: u32) -> Result<(), Error> {
    let needed = u64::from(connections) + SPARE_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Error::failed)?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(Error::usage(format!(
            "{connections} connections need {needed} open files, and the limit is {hard}: \
             raise it (`ulimit -Hn {needed}` as root, or LimitNOFILE), or use fewer connections"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(Error::failed)
}
