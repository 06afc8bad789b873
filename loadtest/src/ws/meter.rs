//! CPU and memory of servers and client processes over the measured time.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::process::{Usage, Watch, growth_percent, name_of};

/// Points of a memory series are at least so far apart.
const SERIES_EVERY: Duration = Duration::from_secs(1);
/// Points kept: ten minutes.
const MAX_POINTS: usize = 601;

/// What one process used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessUsage {
    pub pid: u32,
    pub name: String,
    #[serde(flatten)]
    pub usage: Usage,
}

/// Memory of all servers together at one time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Memory {
    pub at_s: f64,
    pub rss_bytes: u64,
}

/// What all processes used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Usages {
    /// The time that it was measured over.
    pub elapsed_s: f64,
    pub servers: Vec<ProcessUsage>,
    pub clients: Vec<ProcessUsage>,
    /// The servers' memory, about once per second; empty without --server-pid.
    pub memory: Vec<Memory>,
}

#[derive(Debug)]
pub(super) struct Meter {
    servers: Vec<(u32, Watch)>,
    clients: Vec<(u32, Watch)>,
    begun: Instant,
    memory: Vec<Memory>,
}

impl Meter {
    pub(super) fn begin(servers: &[u32], clients: &[u32]) -> Self {
        let watch = |pid: &u32| {
            let mut watch = Watch::new(&[*pid]);
            watch.begin();
            (*pid, watch)
        };
        Self {
            servers: servers.iter().map(watch).collect(),
            clients: clients.iter().map(watch).collect(),
            begun: Instant::now(),
            memory: Vec::new(),
        }
    }

    /// Looks at memory; to be called now and then.
    pub(super) fn sample(&mut self) {
        for (_, watch) in &mut self.servers {
            watch.sample();
        }
        let at = self.begun.elapsed();
        let next = self.memory.last().map_or(0.0, |last| last.at_s + SERIES_EVERY.as_secs_f64());
        if !self.servers.is_empty() && self.memory.len() < MAX_POINTS && at.as_secs_f64() >= next {
            let rss_bytes = self.servers.iter().map(|(_, watch)| watch.rss_bytes()).sum();
            self.memory.push(Memory { at_s: at.as_secs_f64(), rss_bytes });
        }
    }

    pub(super) fn finish(mut self) -> Usages {
        self.sample();
        let elapsed_s = self.begun.elapsed().as_secs_f64();
        let usages = |watches: Vec<(u32, Watch)>| -> Vec<ProcessUsage> {
            let usage = |(pid, watch): (u32, Watch)| Some(ProcessUsage { pid, name: name_of(pid), usage: watch.finish()? });
            watches.into_iter().filter_map(usage).collect()
        };
        Usages { elapsed_s, servers: usages(self.servers), clients: usages(self.clients), memory: self.memory }
    }
}

impl Usages {
    pub(super) fn server_cpu_percent(&self) -> f64 {
        self.servers.iter().map(|server| server.usage.cpu_percent).sum()
    }

    /// CPU time of the servers for each of `n_events`; None without servers or events.
    pub(super) fn server_cpu_us_per(&self, n_events: u64) -> Option<f64> {
        let used_us = self.server_cpu_percent() / 100.0 * self.elapsed_s * 1e6;
        (!self.servers.is_empty() && n_events > 0).then(|| used_us / n_events as f64)
    }

    pub(super) fn client_cpu_percent(&self) -> f64 {
        self.clients.iter().map(|client| client.usage.cpu_percent).sum()
    }

    pub(super) fn rss_bytes(&self) -> u64 {
        self.servers.iter().map(|server| server.usage.rss_bytes).sum()
    }

    /// Growth of the servers' memory over the last half of the run, in percent; None of a run too short to tell.
    pub(super) fn growth_percent(&self) -> Option<f64> {
        growth_percent(&self.memory.iter().map(|memory| memory.rss_bytes).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_and_measured() {
        let mut meter = Meter::begin(&[std::process::id()], &[]);
        meter.sample();
        let usages = meter.finish();
        assert!(!usages.servers[0].name.is_empty() && usages.rss_bytes() > 0);
        assert_eq!(usages.memory.len(), 1);
    }
}
