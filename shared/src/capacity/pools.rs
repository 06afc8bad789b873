//! How many connections a process may have, and how it deals them out: the rules of `DB_POOL_MIN`, `DB_POOL_MAX` and
//! `REDIS_MAX_CONNECTIONS`. A process is an API, or a worker with all its children.

use crate::config::Profile;

/// Connections of the PostgreSQL server that no pool takes: superusers, migrations, monitoring, backups.
pub const LEFT_TO_OTHERS: u32 = 20;
/// Connections to PostgreSQL of a process that has few workers.
pub const PG_BASE: u32 = 24;
/// Connections of an API process that are in no pool: the probe's, and that of a look at the migrations.
const PROBES: u32 = 2;
/// A thread with fewer than this has no pool of its own: its requests would wait for each other beside idle connections.
const LEAST_OF_THREAD: u32 = 2;
/// Connections of a supervisor's pool, which has little to ask.
pub const OF_SUPERVISOR: u32 = 2;
/// That of a worker's candidate for leader.
const OF_CANDIDATE: u32 = 1;
/// Least of a child that runs jobs: for its engine, its handlers and its outcomes.
const LEAST_OF_CHILD: u32 = 3;
/// Children that start at once to take the place of others, in one worker.
pub const SUCCESSORS: u32 = 2;
/// Connections to Redis of a process that has few workers.
pub const REDIS_BASE: u32 = 50;

/// Connections kept open for so many workers.
pub const fn least(workers: u32) -> u32 {
    2 * workers
}

/// Most connections for so many workers, as far as the server has them. A process of one or two has more for each: commits wait for the disk together, and what waits for
/// a connection waits on top.
pub fn most(profile: Profile, workers: u32) -> u32 {
    PG_BASE.max(per_worker(profile) * workers)
}

pub const fn per_worker(profile: Profile) -> u32 {
    match profile {
        Profile::Development | Profile::Staging | Profile::Production | Profile::HighTraffic => 10,
        Profile::Maximum => 20,
    }
}

/// How an API process deals out its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfApi {
    /// What goes on beside requests, and outlives them: submits above all.
    pub process: u32,
    /// Each thread; `None`: all threads share those of the process.
    pub thread: Option<u32>,
}

pub fn of_api(max: u32, n_threads: u32) -> OfApi {
    let n_threads = n_threads.max(1);
    let pooled = max.saturating_sub(PROBES).max(1);
    // Submits share a handful of commits, and requests hold a connection each.
    let for_process = (max / 6).max(2);
    let thread = pooled.saturating_sub(for_process) / n_threads;
    if thread < LEAST_OF_THREAD {
        return OfApi { process: pooled, thread: None };
    }
    OfApi { process: pooled - thread * n_threads, thread: Some(thread) }
}

/// The children of a worker that may be there at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Children {
    pub ordinary: u32,
    pub quarantine: u32,
}

impl Children {
    /// Those that run jobs, while as many as may be are replaced.
    const fn at_work(self) -> u32 {
        self.ordinary + self.quarantine + SUCCESSORS
    }
}

/// How a worker deals out its connections, but for those of [`OF_SUPERVISOR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfWorker {
    /// The supervisor's, for the outcomes of its children.
    pub scribes: u32,
    /// The child that runs no jobs.
    pub maintenance: u32,
    /// Each child that runs jobs: what leases and keeps,
    pub engine: u32,
    /// its handlers,
    pub handlers: u32,
    /// and outcomes that the supervisor does not write.
    pub writers: u32,
}

/// Fewer than [`least_of_worker`] are dealt out as that many.
pub fn of_worker(max: u32, children: Children) -> OfWorker {
    let pooled = max.max(least_of_worker(children)) - OF_SUPERVISOR - OF_CANDIDATE;
    // What every child needs comes first.
    let spare = pooled - children.at_work() * LEAST_OF_CHILD;
    let scribes = (spare / 12).clamp(1, children.ordinary + 1);
    let maintenance = (spare / 8).max(1);
    let child = (pooled - scribes - maintenance) / children.at_work();
    let (engine, writers) = ((child / 4).max(1), if child < 2 * LEAST_OF_CHILD { 1 } else { 2 });
    OfWorker { scribes, maintenance, engine, handlers: child - engine - writers, writers }
}

/// Connections that a worker cannot do without.
pub const fn least_of_worker(children: Children) -> u32 {
    OF_SUPERVISOR + OF_CANDIDATE + 2 + children.at_work() * LEAST_OF_CHILD
}

/// Most connections of a worker, as far as the server has them.
pub fn most_of_worker(profile: Profile, children: Children) -> u32 {
    least_of_worker(children).max(per_worker(profile) * children.at_work())
}

/// What one of so many processes may take of a server's connections: at least one, or it could do nothing.
pub const fn share(server_max_connections: u32, processes: u32) -> u32 {
    let share = server_max_connections.saturating_sub(LEFT_TO_OTHERS) / if processes == 0 { 1 } else { processes };
    if share == 0 { 1 } else { share }
}

/// Most connections to Redis for so many workers: 50 as a base, 10 for each worker, in `maximum` 50 for each.
pub fn redis(profile: Profile, workers: u32) -> u32 {
    match profile {
        Profile::Development | Profile::Staging | Profile::Production | Profile::HighTraffic => REDIS_BASE.max(10 * workers),
        Profile::Maximum => REDIS_BASE * workers.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that an API process may open.
    fn sum_of_api(max: u32, n_threads: u32) -> u32 {
        let OfApi { process, thread } = of_api(max, n_threads);
        PROBES + process + thread.unwrap_or(0) * n_threads
    }

    fn sum_of_worker(max: u32, children: Children) -> u32 {
        let OfWorker { scribes, maintenance, engine, handlers, writers } = of_worker(max, children);
        OF_SUPERVISOR + OF_CANDIDATE + scribes + maintenance + children.at_work() * (engine + handlers + writers)
    }

    #[test]
    fn an_api_process_opens_no_more_than_it_may() {
        for (max, n_threads) in (3..=300).flat_map(|max| (1..=24).map(move |n_threads| (max, n_threads))) {
            assert_eq!(sum_of_api(max, n_threads), max, "{n_threads} threads");
        }
        assert_eq!(of_api(24, 1), OfApi { process: 4, thread: Some(18) });
        assert_eq!(of_api(40, 4), OfApi { process: 6, thread: Some(8) });
        assert_eq!([of_api(10, 12), of_api(1, 1)], [OfApi { process: 8, thread: None }, OfApi { process: 1, thread: None }]);
    }

    #[test]
    fn a_worker_and_its_children_open_no_more_than_they_may() {
        for (ordinary, quarantine) in [(1, 1), (2, 2), (4, 2), (12, 2), (64, 64)] {
            let children = Children { ordinary, quarantine };
            let least = least_of_worker(children);
            assert_eq!(sum_of_worker(1, children), least, "it can do nothing with less");
            for max in least..least + 500 {
                assert!(sum_of_worker(max, children) <= max, "{children:?} of {max}");
            }
        }
        let children = Children { ordinary: 4, quarantine: 2 };
        assert_eq!(of_worker(45, children), OfWorker { scribes: 1, maintenance: 2, engine: 1, handlers: 2, writers: 1 });
        assert_eq!(of_worker(160, children), OfWorker { scribes: 5, maintenance: 16, engine: 4, handlers: 11, writers: 2 });
    }

    #[test]
    fn what_is_announced_fits_the_server_together() {
        let children = Children { ordinary: 4, quarantine: 2 };
        for (server, n_apis, n_workers) in [(200, 2, 2), (500, 10, 4), (500, 2, 1), (1_000, 8, 4)] {
            let share = share(server, n_apis + n_workers);
            let api = sum_of_api(most(Profile::Maximum, 12).min(share), 12);
            let worker = sum_of_worker(most_of_worker(Profile::Maximum, children).min(share), children);
            let sum = n_apis * api + n_workers * worker;
            assert!(sum <= server - LEFT_TO_OTHERS, "{sum} of {server}");
        }
    }

    #[test]
    fn pools_grow_with_the_workers_and_stop_at_the_servers_share() {
        assert_eq!((least(12), most(Profile::Production, 6), most(Profile::Maximum, 12)), (24, 60, 240));
        assert_eq!([most(Profile::Production, 1), most(Profile::Development, 2), most(Profile::Maximum, 1)], [24; 3]);
        assert_eq!([share(500, 2), share(200, 3), share(20, 1), share(0, 0)], [240, 60, 1, 1]);
        assert_eq!([redis(Profile::Production, 2), redis(Profile::HighTraffic, 8), redis(Profile::Maximum, 12)], [50, 80, 600]);
    }
}
