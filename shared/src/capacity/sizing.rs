//! The rules put together: threads, processes, nodes, pools, sockets, memory and job slots, each with its reason.

use super::{
    Advice, Capacity, Given,
    pools::{self, LEFT_TO_OTHERS},
    signals,
    tiers::{Band, Tier, USERS_OF_ONE_NODE, USERS_OF_THREAD, threads_by_users},
};
use crate::config::Profile;

/// Memory of an API process that serves nobody yet; measured.
const PROCESS_BYTES: u64 = 28 << 20;
/// A subscribed socket, in the process; measured. The kernel's buffers come on top.
const SOCKET_BYTES: u64 = 2_400;
/// An open HTTP connection with a request now and then; measured.
const CONNECTION_BYTES: u64 = 17_000;
/// A user has both.
const USER_BYTES: u64 = SOCKET_BYTES + CONNECTION_BYTES;
/// Limits of memory are multiples of this, and no less than that.
const MEMORY_STEP_MIB: u64 = 256;
const MEMORY_LEAST_MIB: u64 = 512;
/// One password hash while it is computed.
const HASH_BYTES: u64 = 19 << 20;
/// A worker's processes: its supervisor and a child for each of four slots at most, and one for maintenance.
const WORKER_PROCESS_BYTES: u64 = 20 << 20;
/// Files of a process beside sockets and pools.
const FILES_BESIDE: u64 = 500;
/// Beyond so many a server has more to do with its connections than with their statements.
const CONNECTIONS_OF_SERVER: u32 = 2_000;
/// Sockets of one process, as `WS_MAX_CONNECTIONS` has it by default.
const SOCKETS_PER_PROCESS: u64 = 20_000;

/// How the threads of the API are dealt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    tier: Tier,
    profile: Profile,
    /// Over all nodes.
    threads: u32,
    nodes: u32,
    /// Why there are no fewer nodes.
    bound: Bound,
    processes_per_node: u32,
    threads_per_process: u32,
    band: Band,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Users,
    Cores,
    Memory,
}

impl Bound {
    const fn words(self) -> &'static str {
        match self {
            Self::Users => "the rule for so many users decides",
            Self::Cores => "the cores decide",
            Self::Memory => "the memory decides",
        }
    }
}

pub fn size(given: &Given<'_>) -> Capacity {
    let layout = lay_out(given);
    let mut advice = threads(given, &layout);
    advice.extend(keep_alive(&layout));
    advice.extend(connections(given, &layout));
    advice.extend(sockets_and_memory(given, &layout));
    advice.extend(jobs(given, &layout));
    Capacity {
        machine: given.machine.clone(),
        postgres: given.postgres,
        redis: given.redis,
        load: given.load.clone(),
        tier: layout.tier,
        profile: layout.profile.as_str(),
        nodes: layout.nodes,
        band: layout.band,
        signals: signals::all(given),
        env: env(&layout, &advice),
        advice,
    }
}

fn lay_out(given: &Given<'_>) -> Layout {
    let (users, cores) = (given.load.users, given.machine.cores);
    let tier = given.load.tier();
    let by_users = threads_by_users(users);
    let wanted = cores.clamp(*by_users.start(), *by_users.end());
    let threads = match tier {
        Tier::Low => wanted,
        Tier::Medium | Tier::High | Tier::Extreme => tier.api_threads().max(small(users.div_ceil(USERS_OF_THREAD))),
    };
    let by_rule = (if users >= USERS_OF_ONE_NODE { tier.nodes().max(2) } else { 1 }, Bound::Users);
    let by_cores = (threads.div_ceil(Band::Aggressive.threads(cores)), Bound::Cores);
    let by_memory = (users_of_node(given).map_or(1, |most| small(users.div_ceil(most))), Bound::Memory);
    let more = |one: (u32, Bound), other: (u32, Bound)| if other.0 > one.0 { other } else { one };
    let (nodes, bound) = more(more(by_rule, by_cores), by_memory);
    let threads_per_node = threads.div_ceil(nodes);
    let processes_per_node = threads_per_node.min(2);
    Layout {
        tier,
        profile: tier.profile(),
        threads,
        nodes,
        bound,
        processes_per_node,
        threads_per_process: threads_per_node.div_ceil(processes_per_node),
        band: Band::of(threads_per_node, cores),
    }
}

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Users whose sockets and connections find room in a machine like this one, in two API processes beside a worker. `None` where its memory
/// is unknown, or too little for processes that serve nobody: then more of them would not help.
fn users_of_node(given: &Given<'_>) -> Option<u64> {
    let for_processes = (given.machine.memory_bytes? >> 20).checked_sub(worker_mib(given.load.tier()))?;
    let limit = for_processes / 2 / MEMORY_STEP_MIB * MEMORY_STEP_MIB;
    let expected = ((limit << 20) * 2 / 3).checked_sub(PROCESS_BYTES + bounded_bytes(given))?;
    Some(2 * (expected / USER_BYTES)).filter(|users| *users > 0 && limit >= MEMORY_LEAST_MIB)
}

/// What bodies and password hashes may take in one process, at their limits.
fn bounded_bytes(given: &Given<'_>) -> u64 {
    given.standing.bodies_max_bytes + u64::from(given.standing.password_hashes_max) * HASH_BYTES
}

fn threads(given: &Given<'_>, layout: &Layout) -> Vec<Advice> {
    let (users, cores) = (given.load.users, given.machine.cores);
    let old_ceiling = 2 * cores + 1;
    let memory = users_of_node(given).map_or(String::new(), |most| format!(", its memory holds {most} users"));
    vec![
        Advice {
            name: "nodes",
            value: layout.nodes.into(),
            unit: "machines like this one",
            now: None,
            reason: format!(
                "{users} users ask for {} threads of the API in all; {cores} cores take {} at most{memory}: {}",
                layout.threads,
                Band::Aggressive.threads(cores),
                layout.bound.words()
            ),
            rule: "up to 2,000 users one node, beyond more nodes; from 10,000 two, from 50,000 four behind a balancer; a thread for each 10,000, and no node with more memory than this one",
        },
        Advice {
            name: "api_processes",
            value: u64::from(layout.processes_per_node) * u64::from(layout.nodes),
            unit: "processes in all",
            now: given.load.api_processes.map(u64::from),
            reason: "threads share a process: with two processes behind nginx, one may crash or be restarted while the other answers"
                .to_owned(),
            rule: "two API processes on each node",
        },
        Advice {
            name: "API_WORKERS",
            value: layout.threads_per_process.into(),
            unit: "threads in each process",
            now: Some(given.standing.api_workers.into()),
            reason: format!(
                "{} threads on each node of {cores} cores, over {} processes; never more than the old ceiling of 2 × cores + 1 = {old_ceiling}",
                layout.threads_per_process * layout.processes_per_node,
                layout.processes_per_node
            ),
            rule: layout.band.rule(),
        },
        Advice {
            name: "API_CONCURRENCY_LIMIT",
            value: concurrency(layout.profile),
            unit: "requests in flight in each thread",
            now: Some(given.standing.concurrency_limit.into()),
            reason: format!("more wait shortly, then get 503: {} in all", concurrency(layout.profile) * u64::from(layout.threads)),
            rule: "1,000 for each thread, from 1,000 users 2,000",
        },
    ]
}

/// Idle connections of nginx, which it closes after 55 s itself. Who closes them first may be sent a request at that moment.
const KEEP_ALIVE_BEHIND_PROXY_S: u64 = 65;

/// Where the profile closes them sooner than the nginx that its processes are to stand behind.
fn keep_alive(layout: &Layout) -> Option<Advice> {
    (layout.profile == Profile::Maximum).then(|| Advice {
        name: "API_KEEP_ALIVE_S",
        value: KEEP_ALIVE_BEHIND_PROXY_S,
        unit: "s that an idle connection is kept",
        now: None,
        reason: "behind nginx of infra/nginx, which closes idle connections after 55 s and must be the first, or requests meet a 502 now and then"
            .to_owned(),
        rule: "longer than the proxy's own; the profile `maximum` has 5, for clients that come without a proxy",
    })
}

const fn concurrency(profile: Profile) -> u64 {
    match profile {
        Profile::Development | Profile::Staging | Profile::Production => 1_000,
        Profile::HighTraffic | Profile::Maximum => 2_000,
    }
}

fn processes(layout: &Layout) -> u32 {
    layout.processes_per_node * layout.nodes + layout.tier.workers()
}

fn connections(given: &Given<'_>, layout: &Layout) -> Vec<Advice> {
    let (threads, processes, standing) = (layout.threads_per_process, processes(layout), given.standing);
    let wanted = pools::most(layout.profile, threads);
    let share = given.postgres.map(|room| pools::share(room.max_connections, processes));
    let pool_max = share.map_or(wanted, |share| wanted.min(share));
    let needed = processes * wanted + LEFT_TO_OTHERS;
    let server = if needed <= 200 { 200 } else { needed.max(500) };
    let pooler = if needed > CONNECTIONS_OF_SERVER { ": put a pooler before it, and DATABASE_DIRECT_URL past that" } else { "" };
    let why_pool = match share {
        Some(share) if share < wanted => {
            format!("{wanted} by the rule, of which this server has {share} for each of {processes} processes")
        }
        Some(_) | None if wanted == pools::PG_BASE => format!("{wanted} at least, since commits wait for the disk together"),
        Some(_) | None => format!("{} for each of {threads} threads", pools::per_worker(layout.profile)),
    };
    let per_redis = pools::redis(layout.profile, threads);
    let pool_rule = "min(10 × threads and at least 24, in `maximum` 20 ×; server's max_connections − 20, divided by the processes)";
    let advice = |name, value: u32, unit, now, reason, rule| Advice { name, value: value.into(), unit, now, reason, rule };
    let now = |n: u32| Some(u64::from(n));
    vec![
        advice(
            "DB_PROCESSES",
            processes,
            "processes",
            now(standing.db_processes),
            "API processes and workers that share PostgreSQL's connections".to_owned(),
            "as many as there are",
        ),
        advice(
            "DB_POOL_MIN",
            pools::least(threads).min(pool_max),
            "connections",
            now(standing.db_pool_min),
            "a fresh connection costs PostgreSQL a fork: these are kept".to_owned(),
            "2 × threads",
        ),
        advice("DB_POOL_MAX", pool_max, "connections", now(standing.db_pool_max), why_pool, pool_rule),
        advice(
            "postgres max_connections",
            server,
            "connections",
            given.postgres.map(|room| room.max_connections.into()),
            format!("{processes} processes with {wanted} each, and {LEFT_TO_OTHERS} left to others, make {needed}{pooler}"),
            "200 (moderate) or 500 (maximum)",
        ),
        advice(
            "REDIS_MAX_CONNECTIONS",
            per_redis,
            "connections",
            now(standing.redis_max_connections),
            "a process shares few connections among many requests; past it callers wait, then get 503".to_owned(),
            "50 as a base, 10 for each thread; in `maximum` 50 for each",
        ),
        advice(
            "redis maxclients",
            (processes * per_redis).max(10_000),
            "connections",
            given.redis.map(|room| room.maxclients.into()),
            format!("{processes} processes with {per_redis} each"),
            "10,000 unless that is too few",
        ),
    ]
}

fn sockets_and_memory(given: &Given<'_>, layout: &Layout) -> Vec<Advice> {
    let n_processes = u64::from(layout.processes_per_node * layout.nodes);
    let share = given.load.users.div_ceil(n_processes);
    let sockets = SOCKETS_PER_PROCESS.max(share.next_multiple_of(1_000));
    let beside = u64::from(pools::most(layout.profile, layout.threads_per_process))
        + u64::from(pools::redis(layout.profile, layout.threads_per_process));
    let files = sockets + concurrency(layout.profile) * u64::from(layout.threads_per_process) + beside + FILES_BESIDE;
    let bounded = bounded_bytes(given);
    let memory = PROCESS_BYTES + share * USER_BYTES + bounded;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let limit = mib(memory * 3 / 2).next_multiple_of(MEMORY_STEP_MIB).max(MEMORY_LEAST_MIB);
    let here = given.machine.memory_bytes.map_or(0, mib);
    vec![
        Advice {
            name: "WS_MAX_CONNECTIONS",
            value: sockets,
            unit: "sockets in each process",
            now: Some(given.standing.ws_max_connections),
            reason: format!("{share} users in each process, and room for those of another that stopped"),
            rule: "20,000 for each process; a thread held more than 2,000 with next to no CPU when measured",
        },
        Advice {
            name: "open files",
            value: files,
            unit: "files in each process (LimitNOFILE, ulimit -n)",
            now: given.machine.open_files_max,
            reason: "each socket and connection is one".to_owned(),
            rule: "sockets + requests in flight + pools + 500",
        },
        Advice {
            name: "api memory",
            value: limit,
            unit: "MiB, limit of each process",
            now: None,
            reason: format!(
                "{} MiB expected for {share} users: 28 as it stands, 2.4 kB a socket and 17 kB a connection, {} for bodies and password hashes at their limits; half as much again in case",
                mib(memory),
                mib(bounded)
            ),
            rule: "512 MiB at the least; containers: small 0.5 to 1 GB",
        },
        Advice {
            name: "node memory",
            value: limit * u64::from(layout.processes_per_node) + worker_mib(layout.tier),
            unit: "MiB of each node, without PostgreSQL and Redis",
            now: Some(here).filter(|mib| *mib > 0),
            reason: "its API processes and a worker".to_owned(),
            rule: "PostgreSQL and Redis on the same machine need theirs besides: 4 and 2 GB in `maximum`",
        },
    ]
}

fn worker_mib(tier: Tier) -> u64 {
    let n_processes = u64::from(tier.job_slots().min(4)) + 2;
    (n_processes * WORKER_PROCESS_BYTES).div_ceil(1 << 20).next_multiple_of(MEMORY_STEP_MIB)
}

fn jobs(given: &Given<'_>, layout: &Layout) -> Vec<Advice> {
    let (slots, workers) = (layout.tier.job_slots(), layout.tier.workers());
    vec![
        Advice {
            name: "worker_processes",
            value: workers.into(),
            unit: "workers in all",
            now: given.load.worker_processes.map(u64::from),
            reason: format!("{} jobs at once; a second worker goes on while the first is replaced", slots * workers),
            rule: "low 1, medium 1, high 2, extreme 4",
        },
        Advice {
            name: "WORKER_CONCURRENCY",
            value: slots.into(),
            unit: "job slots in each worker",
            now: Some(given.standing.job_slots.into()),
            reason: "jobs that wait for others need more, jobs that compute no more than cores".to_owned(),
            rule: "low 4, medium 8, high and extreme 12",
        },
    ]
}

/// The settings among the figures, and the profile that they change. `DB_POOL_MAX` is an API's here; left on `auto` it comes to the same there,
/// and to another figure in workers.
fn env(layout: &Layout, advice: &[Advice]) -> Vec<String> {
    let is_setting = |name: &str| name != "DB_POOL_MAX" && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let lines = advice.iter().filter(|advice| is_setting(advice.name)).map(|advice| format!("{}={}", advice.name, advice.value));
    std::iter::once(format!("APP_PROFILE={}", layout.profile)).chain(lines).collect()
}
