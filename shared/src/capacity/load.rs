//! The load that a size is for: what goes on now, or so many users.

use super::tiers::Tier;
use crate::{Context, jobs::queues, nodes, points};
use serde::Serialize;
use std::{fs, time::Duration};
use tokio::time;
use utoipa::ToSchema;

/// How long the machine's CPU is watched.
const CPU_WATCHED_FOR: Duration = Duration::from_millis(200);

/// What one process knows of itself, as the edge counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfProcess {
    /// Open connections, sockets among them.
    pub connections: u64,
    pub sockets: u64,
    /// `None` where they are not counted.
    pub requests_in_flight: Option<u64>,
}

/// Figures that nobody could tell are `null`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Load {
    /// Concurrent users: as asked for, or the open connections of this process now.
    pub users: u64,
    /// Whether `users` is a question, and not what is there now.
    pub is_asked: bool,
    /// Of the process that answers; `null` on the command line.
    #[schema(required)]
    pub connections: Option<u64>,
    #[schema(required)]
    pub sockets: Option<u64>,
    #[schema(required)]
    pub requests_in_flight: Option<u64>,
    /// API processes that were heard of within 30 s.
    #[schema(required)]
    pub api_processes: Option<u32>,
    /// Worker instances that were heard of lately.
    #[schema(required)]
    pub worker_processes: Option<u32>,
    /// Jobs that those workers run at once.
    #[schema(required)]
    pub job_slots: Option<u64>,
    /// Jobs that could run now and wait for a slot, over all queues.
    #[schema(required)]
    pub jobs_ready: Option<u64>,
    #[schema(required)]
    pub jobs_running: Option<u64>,
    /// Points that wait to be stored.
    #[schema(required)]
    pub points_waiting: Option<u64>,
    /// CPU of this machine over the last moment, by everybody; 100 is all cores.
    #[schema(required)]
    pub cpu_percent: Option<f64>,
}

impl Load {
    pub const fn tier(&self) -> Tier {
        Tier::of(self.users)
    }

    /// Asks both servers and the kernel.
    pub(super) async fn look(ctx: &Context, process: Option<OfProcess>, users: Option<u64>) -> Self {
        let (nodes, workers, backlog, points, cpu_percent) = tokio::join!(
            nodes::list(ctx),
            crate::jobs::workers::instances(ctx),
            queues::backlog(ctx),
            points::depth::look(ctx),
            cpu_percent(),
        );
        let (workers, backlog) = (workers.ok(), backlog.ok());
        Self {
            users: users.or(process.map(|process| process.connections)).unwrap_or_default(),
            is_asked: users.is_some(),
            connections: process.map(|process| process.connections),
            sockets: process.map(|process| process.sockets),
            requests_in_flight: process.and_then(|process| process.requests_in_flight),
            api_processes: nodes.ok().map(|nodes| count(nodes.iter().filter(|node| node.kind == "api").count())),
            worker_processes: workers.as_ref().map(|workers| count(workers.processes)),
            job_slots: workers.map(|workers| workers.slots as u64),
            jobs_ready: backlog.map(|backlog| backlog.queued),
            jobs_running: backlog.map(|backlog| backlog.running),
            points_waiting: points.ok(),
            cpu_percent,
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// `None` where the kernel does not tell.
async fn cpu_percent() -> Option<f64> {
    let before = cpu_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
    time::sleep(CPU_WATCHED_FOR).await;
    let after = cpu_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
    let (busy, all) = (after.0.checked_sub(before.0)?, after.1.checked_sub(before.1)?);
    (all > 0).then(|| (1_000.0 * busy as f64 / all as f64).round() / 10.0)
}

/// Ticks that were worked in, and all of them, since the machine started.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    // user nice system idle iowait irq softirq steal
    let ticks: Vec<u64> = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8).flat_map(str::parse).collect();
    let all = ticks.iter().sum::<u64>();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((all - idle, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_that_wait_for_a_disk_are_idle() {
        assert_eq!(cpu_ticks("cpu  10 1 5 80 4 0 0 0 0 0\ncpu0 1"), Some((16, 100)));
        assert_eq!(cpu_ticks("nothing"), None);
    }
}
