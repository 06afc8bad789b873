//! When to add: the marks at which a size no longer fits, beside what there is now.

use super::{Given, tiers::Band};
use serde::Serialize;
use utoipa::ToSchema;

/// Sockets that a small container is good for.
const SOCKETS_OF_SMALL: f64 = 500.0;
/// Sockets in all from which more workers are worth a look.
const SOCKETS_TOTAL: f64 = 1_000.0;
const CPU_PERCENT: f64 = 70.0;
const MEMORY_PERCENT: f64 = 80.0;
/// Share of a server's own limit from which it is short.
const SERVER_PERCENT: f64 = 80.0;
/// Jobs that wait for each slot: beyond, submits come faster than they are run.
const READY_PER_SLOT: f64 = 100.0;
/// A container of at most so much counts as small.
const SMALL_CORES: u32 = 1;
const SMALL_BYTES: u64 = 1 << 30;

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Signal {
    #[schema(example = "cpu_percent")]
    pub name: &'static str,
    /// What there is now; `null` where nobody could tell.
    #[schema(required)]
    pub value: Option<f64>,
    /// From where on it asks for something; `null` where the mark does not apply here.
    #[schema(required)]
    pub limit: Option<f64>,
    pub is_raised: bool,
    /// What to do once it is.
    pub then: String,
}

fn signal(name: &'static str, value: Option<f64>, limit: Option<f64>, then: impl Into<String>) -> Signal {
    let is_raised = value.zip(limit).is_some_and(|(value, limit)| value > limit);
    Signal { name, value: value.map(|value| (value * 10.0).round() / 10.0), limit, is_raised, then: then.into() }
}

pub(super) fn all(given: &Given<'_>) -> Vec<Signal> {
    let mut signals = of_sockets(given);
    signals.extend(of_machine(given));
    signals.extend(of_servers(given));
    signals
}

fn of_sockets(given: &Given<'_>) -> Vec<Signal> {
    let sockets = given.load.sockets.map(|n| n as f64);
    let machine = given.machine;
    let is_small = machine.cores <= SMALL_CORES || machine.memory_bytes.is_some_and(|bytes| bytes <= SMALL_BYTES);
    let files = given.load.connections.zip(machine.open_files_max).map(|(open, max)| 100.0 * open as f64 / max as f64);
    vec![
        signal("sockets_per_small_container", sockets, is_small.then_some(SOCKETS_OF_SMALL), "another container, or a larger one"),
        signal(
            "sockets_total",
            sockets,
            Some(SOCKETS_TOTAL),
            "more threads (API_WORKERS) if CPU is over its mark as well; else nothing is short",
        ),
        signal("open_files_percent", files, Some(SERVER_PERCENT), "raise LimitNOFILE, or another process"),
    ]
}

fn of_machine(given: &Given<'_>) -> Vec<Signal> {
    let memory = given.machine.memory_percent;
    let has_memory = memory.is_none_or(|percent| percent < MEMORY_PERCENT);
    let has_threads = given.standing.api_workers * given.processes_here() < Band::Aggressive.threads(given.machine.cores);
    let then = match (has_memory, has_threads) {
        (true, true) => "memory is below 80 %: more threads (API_WORKERS), or a second process",
        (true, false) => "the threads are at 1.5 × the cores already: another node",
        (false, _) => "memory is short as well: another node",
    };
    vec![
        signal("cpu_percent", given.load.cpu_percent, Some(CPU_PERCENT), then),
        signal("memory_percent", memory, Some(MEMORY_PERCENT), "more memory, or another node; more threads would not help"),
    ]
}

fn of_servers(given: &Given<'_>) -> Vec<Signal> {
    let connections = given.postgres.map(|room| 100.0 * f64::from(room.connections) / f64::from(room.max_connections.max(1)));
    let clients = given.redis.map(|room| 100.0 * f64::from(room.clients) / f64::from(room.maxclients.max(1)));
    let slots = given.load.job_slots.filter(|slots| *slots > 0);
    let ready = given.load.jobs_ready.zip(slots).map(|(ready, slots)| ready as f64 / slots as f64);
    let points = given.load.points_waiting.map(|waiting| 100.0 * waiting as f64 / given.standing.ingest_max_depth.max(1) as f64);
    vec![
        signal("postgres_connections_percent", connections, Some(SERVER_PERCENT), "raise max_connections, or lower DB_POOL_MAX"),
        signal(
            "redis_memory_percent",
            given.redis.and_then(|room| room.used_percent()),
            Some(SERVER_PERCENT),
            "raise maxmemory: nothing is evicted, so writes fail when it is full",
        ),
        signal("redis_clients_percent", clients, Some(SERVER_PERCENT), "raise maxclients"),
        signal(
            "jobs_ready_per_slot",
            ready,
            Some(READY_PER_SLOT),
            "more slots (WORKER_CONCURRENCY) if jobs wait for others, another worker if they compute",
        ),
        signal(
            "points_waiting_percent",
            points,
            Some(SERVER_PERCENT),
            "points come faster than PostgreSQL stores them: a faster disk, or fewer points",
        ),
    ]
}
