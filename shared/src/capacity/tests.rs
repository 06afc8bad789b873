//! Sizes at the edges of the tables, and when marks are raised.

use super::{sizing::size, *};

fn machine(cores: u32) -> Machine {
    Machine {
        cores,
        cpu_limit: None,
        memory_bytes: Some(16 << 30),
        is_memory_limited: false,
        memory_percent: Some(40.0),
        open_files_max: Some(20_000),
        open_files_hard_max: Some(20_000),
    }
}

const STANDING: Standing = Standing {
    profile: Profile::Production,
    api_workers: 2,
    concurrency_limit: 1_000,
    db_pool_min: 4,
    db_pool_max: 20,
    db_processes: 3,
    redis_max_connections: 50,
    ws_max_connections: 20_000,
    job_slots: 8,
    bodies_max_bytes: 64 << 20,
    password_hashes_max: 2,
    ingest_max_depth: 1_000,
};

fn users(users: u64) -> Load {
    Load { users, is_asked: true, ..Load::default() }
}

fn sized(cores: u32, load: &Load, max_connections: u32) -> Capacity {
    let postgres = Some(PostgresRoom { max_connections, connections: 10 });
    size(&Given { machine: &machine(cores), postgres, redis: None, load, standing: STANDING })
}

fn figure(capacity: &Capacity, name: &str) -> u64 {
    capacity.advice.iter().find(|advice| advice.name == name).unwrap_or_else(|| panic!("there is a line for {name}")).value
}

/// Nodes, processes in all, and threads of each.
fn layout(cores: u32, n_users: u64) -> (u32, u64, u64) {
    let capacity = sized(cores, &users(n_users), 500);
    (capacity.nodes, figure(&capacity, "api_processes"), figure(&capacity, "API_WORKERS"))
}

#[test]
fn threads_follow_the_users_as_far_as_the_cores_go() {
    let rows = [(0, 2), (99, 2), (100, 2), (499, 2), (500, 3), (999, 3), (1_000, 4), (1_999, 4)];
    for (n_users, threads) in rows {
        assert_eq!(layout(8, n_users), (1, 2, if n_users < 100 { 2 } else { threads }), "{n_users} users on 8 cores");
    }
    assert_eq!([layout(1, 0), layout(2, 0)], [(2, 2, 1), (1, 2, 1)], "two threads do not fit one core");
    assert_eq!(layout(4, 999), (1, 2, 3), "six threads on four cores are still 1.5 × as many");
}

#[test]
fn beyond_what_one_node_carries_there_are_more() {
    assert_eq!([layout(8, 2_000), layout(8, 9_999)], [(2, 4, 2), (2, 4, 2)]);
    assert_eq!([layout(12, 10_000), layout(12, 49_999)], [(2, 4, 6), (2, 4, 6)]);
    assert_eq!(layout(12, 50_000), (4, 8, 6));
    assert_eq!(layout(4, 1_000), (2, 4, 2), "eight threads are more than 1.5 × 4 cores");
    assert_eq!(layout(4, 50_000).0, 8);
}

#[test]
fn no_node_has_more_memory_or_more_users_on_a_thread_than_it_can_hold() {
    for (cores, n_users) in [(4, 10_000_000), (64, 10_000_000), (4, 600_000), (12, 50_000)] {
        let capacity = sized(cores, &users(n_users), 500);
        let (threads, n_processes) = (figure(&capacity, "API_WORKERS"), figure(&capacity, "api_processes"));
        assert!(figure(&capacity, "node memory") <= 16 << 10, "{n_users} users on {cores} cores: {capacity}");
        assert!(threads * n_processes * 10_000 >= n_users, "{n_users} users on {cores} cores: {capacity}");
        assert_eq!(n_processes, 2 * u64::from(capacity.nodes));
    }
}

#[test]
fn the_nodes_say_which_limit_decides() {
    let why = |cores: u32, memory_bytes: Option<u64>, n_users: u64| {
        let machine = Machine { memory_bytes, ..machine(cores) };
        let load = users(n_users);
        let capacity = size(&Given { machine: &machine, postgres: None, redis: None, load: &load, standing: STANDING });
        let line = capacity.advice.into_iter().find(|advice| advice.name == "nodes").unwrap();
        (line.value, line.reason.rsplit_once(": ").unwrap().1.to_owned())
    };
    let is = |nodes, words: &str| (nodes, words.to_owned());
    assert_eq!(why(12, Some(16 << 30), 50_000), is(4, "the rule for so many users decides"));
    assert_eq!(why(4, Some(16 << 30), 10_000_000), is(167, "the cores decide"));
    assert_eq!(why(64, Some(16 << 30), 10_000_000), is(18, "the memory decides"));
    assert_eq!(why(64, None, 10_000_000), is(11, "the cores decide"));
    assert_eq!(why(4, Some(1 << 30), 999), is(1, "the rule for so many users decides"), "more nodes without room help nothing");
}

#[test]
fn slots_workers_and_profile_are_those_of_the_tier() {
    let rows = [(999, 4, 1, "production"), (1_000, 8, 1, "high-traffic"), (10_000, 12, 2, "maximum"), (50_000, 12, 4, "maximum")];
    for (n_users, slots, workers, profile) in rows {
        let capacity = sized(12, &users(n_users), 500);
        let seen = (figure(&capacity, "WORKER_CONCURRENCY"), figure(&capacity, "worker_processes"), capacity.profile);
        assert_eq!(seen, (slots, workers, profile), "{n_users} users");
    }
}

#[test]
fn the_pools_of_all_processes_fit_the_server() {
    let pool = |max_connections| {
        let capacity = sized(12, &users(24_000), max_connections);
        (figure(&capacity, "DB_PROCESSES"), figure(&capacity, "DB_POOL_MIN"), figure(&capacity, "DB_POOL_MAX"))
    };
    assert_eq!([pool(1_000), pool(500), pool(50)], [(6, 12, 120), (6, 12, 80), (6, 5, 5)]);
    let reason = sized(12, &users(24_000), 50).advice.into_iter().find(|advice| advice.name == "DB_POOL_MAX").unwrap().reason;
    assert_eq!(reason, "120 by the rule, of which this server has 5 for each of 6 processes");
}

#[test]
fn every_line_has_a_reason_and_settings_are_ready_to_paste() {
    let capacity = sized(4, &users(250), 200);
    assert!(capacity.advice.iter().all(|advice| !advice.reason.is_empty() && !advice.rule.is_empty()));
    assert_eq!(&capacity.env[..2], ["APP_PROFILE=production", "API_WORKERS=2"]);
    let is_known = |line: &String| crate::config::SETTINGS.iter().any(|setting| line.starts_with(&format!("{}=", setting.name)));
    assert!(capacity.env.iter().all(is_known), "{:?}", capacity.env);
    assert!(!capacity.env.iter().any(|line| line.starts_with("DB_POOL_MAX=")), "workers would take it too");
    let text = capacity.to_string();
    assert!(text.contains("Users: 250 (asked about)") && text.contains("\nAPI_WORKERS=2\n"), "{text}");
}

#[test]
fn where_the_profile_closes_before_nginx_the_time_is_among_what_to_paste() {
    let env = |n_users| sized(12, &users(n_users), 500).env;
    assert!(env(10_000).contains(&"API_KEEP_ALIVE_S=65".to_owned()), "{:?}", env(10_000));
    assert!(!env(9_999).iter().any(|line| line.starts_with("API_KEEP_ALIVE_S")), "the profile's own is 65");
}

/// The names of what is raised.
fn raised(cores: u32, load: Load, memory_percent: f64) -> Vec<&'static str> {
    let machine = Machine { memory_percent: Some(memory_percent), ..machine(cores) };
    let redis = Some(RedisRoom { maxmemory_bytes: 100, used_memory_bytes: 50, maxclients: 100, clients: 10 });
    let postgres = Some(PostgresRoom { max_connections: 100, connections: 80 });
    let capacity = size(&Given { machine: &machine, postgres, redis, load: &load, standing: STANDING });
    capacity.signals.into_iter().filter(|signal| signal.is_raised).map(|signal| signal.name).collect()
}

#[test]
fn marks_are_raised_once_they_are_passed() {
    let at = |sockets, cpu_percent| Load { sockets: Some(sockets), cpu_percent: Some(cpu_percent), ..Load::default() };
    assert!(raised(1, at(500, 70.0), 80.0).is_empty(), "a mark itself is still fine");
    assert_eq!(raised(1, at(501, 70.0), 50.0), ["sockets_per_small_container"]);
    assert_eq!(raised(4, at(1_001, 70.1), 80.1), ["sockets_total", "cpu_percent", "memory_percent"]);
    let queues = Load { jobs_ready: Some(801), job_slots: Some(8), points_waiting: Some(801), ..Load::default() };
    assert_eq!(raised(4, queues, 50.0), ["jobs_ready_per_slot", "points_waiting_percent"]);
    assert!(raised(4, Load::default(), 50.0).is_empty(), "what nobody can tell raises nothing");
}

#[test]
fn a_busy_machine_gets_threads_while_it_has_memory_and_another_node_else() {
    let then = |cores: u32, memory_percent: f64| {
        let machine = Machine { memory_percent: Some(memory_percent), ..machine(cores) };
        let load = Load { cpu_percent: Some(90.0), ..Load::default() };
        let capacity = size(&Given { machine: &machine, postgres: None, redis: None, load: &load, standing: STANDING });
        capacity.signals.into_iter().find(|signal| signal.name == "cpu_percent").unwrap().then
    };
    assert!(then(4, 79.0).contains("more threads") && then(4, 81.0).contains("another node"));
    assert!(then(1, 50.0).contains("at 1.5 ×"), "{}", then(1, 50.0));
}
