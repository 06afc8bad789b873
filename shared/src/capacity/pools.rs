//! How many connections a process may have, and how it deals them out: the rules of `DB_POOL_MIN`, `DB_POOL_MAX` and
//! `REDIS_MAX_CONNECTIONS`. A process is an API, or a worker with all its children.

use crate::config::Profile;

/// Connections of the PostgreSQL server that no pool takes: superusers, migrations, monitoring, backups.
pub const LEFT_TO_OTHERS: u32 = 20;
/// Connections to PostgreSQL of a process that has few workers.
pub const PG_BASE: u32 = 24;
/// Connections of an API process that are in no pool: the probe's, and that of a look at the migrations.
const PROBES: u32 = 2;
/// Threads that would have fewer than this share one pool: their requests would wait for each other beside idle connections.
const LEAST_OF_THREAD: u32 = 2;
/// Connections of a supervisor's pool. More than one, as in every pool where batches are completed or schedules fired: both ask over a
/// second connection while the first one holds their transaction.
pub const OF_SUPERVISOR: u32 = 3;
/// That of a worker's candidate for leader.
const OF_CANDIDATE: u32 = 1;
/// Least of the child that runs no jobs: a schedule and a batch may hold one each.
const LEAST_OF_MAINTENANCE: u32 = 3;
/// Least of a child that runs jobs, for what leases and keeps, for its handlers, and for its outcomes.
const LEAST_OF_CHILD: u32 = 5;
const LEAST_OF_ENGINE: u32 = 2;
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
    /// What goes on beside requests, and outlives them: submits above all. A pool of its own in any case: requests hold a connection of
    /// their thread's while they ask this one.
    pub process: u32,
    pub threads: OfThreads,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfThreads {
    Each(u32),
    Together(u32),
}

pub fn of_api(max: u32, n_threads: u32) -> OfApi {
    let n_threads = n_threads.max(1);
    let pooled = max.saturating_sub(PROBES).max(2);
    // Submits share a handful of commits, and requests hold a connection each.
    let process = (max / 6).max(2).min(pooled - 1);
    let rest = pooled - process;
    let each = rest / n_threads;
    if each < LEAST_OF_THREAD {
        return OfApi { process, threads: OfThreads::Together(rest) };
    }
    OfApi { process: pooled - each * n_threads, threads: OfThreads::Each(each) }
}

/// How a worker with so many children for jobs deals out its connections, but for those of [`OF_SUPERVISOR`].
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

/// Children for jobs that are there at once: one of them may be about to be replaced, or be there for suspects. All open what they need
/// when they need it, so that more than one of these at a time is for [`LEFT_TO_OTHERS`].
const fn at_work(n_children: u32) -> u32 {
    n_children + 1
}

/// Fewer than [`least_of_worker`] are dealt out as that many.
pub fn of_worker(max: u32, n_children: u32) -> OfWorker {
    let least = least_of_worker(n_children);
    let max = max.max(least);
    // What every child needs comes first.
    let spare = max - least;
    let scribes = 1 + (spare / 12).min(n_children);
    let maintenance = LEAST_OF_MAINTENANCE + spare / 4;
    let child = (max - OF_SUPERVISOR - OF_CANDIDATE - scribes - maintenance) / at_work(n_children);
    let (engine, writers) = ((child / 4).max(LEAST_OF_ENGINE), if child < 2 * LEAST_OF_CHILD { 1 } else { 2 });
    OfWorker { scribes, maintenance, engine, handlers: child - engine - writers, writers }
}

/// Connections that a worker cannot do without.
pub const fn least_of_worker(n_children: u32) -> u32 {
    OF_SUPERVISOR + OF_CANDIDATE + 1 + LEAST_OF_MAINTENANCE + at_work(n_children) * LEAST_OF_CHILD
}

/// Most connections of a worker, as far as the server has them: as many for each child, that of maintenance among them.
pub fn most_of_worker(profile: Profile, n_children: u32) -> u32 {
    least_of_worker(n_children).max(per_worker(profile) * (at_work(n_children) + 1))
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
        let OfApi { process, threads } = of_api(max, n_threads);
        PROBES
            + process
            + match threads {
                OfThreads::Each(each) => each * n_threads,
                OfThreads::Together(together) => together,
            }
    }

    fn sum_of_worker(max: u32, n_children: u32) -> u32 {
        let OfWorker { scribes, maintenance, engine, handlers, writers } = of_worker(max, n_children);
        OF_SUPERVISOR + OF_CANDIDATE + scribes + maintenance + at_work(n_children) * (engine + handlers + writers)
    }

    #[test]
    fn an_api_process_opens_no_more_than_it_may() {
        for (max, n_threads) in (4..=300).flat_map(|max| (1..=24).map(move |n_threads| (max, n_threads))) {
            assert_eq!(sum_of_api(max, n_threads), max, "{n_threads} threads");
        }
        assert_eq!(of_api(24, 1), OfApi { process: 4, threads: OfThreads::Each(18) });
        assert_eq!(of_api(40, 4), OfApi { process: 6, threads: OfThreads::Each(8) });
        assert_eq!(of_api(26, 12), OfApi { process: 4, threads: OfThreads::Together(20) });
        assert_eq!([of_api(4, 1), of_api(1, 1)], [OfApi { process: 1, threads: OfThreads::Together(1) }; 2]);
    }

    #[test]
    fn a_worker_and_its_children_open_no_more_than_they_may() {
        for n_children in [1, 2, 4, 12, 64] {
            let least = least_of_worker(n_children);
            assert_eq!(sum_of_worker(1, n_children), least, "it can do nothing with less");
            for max in least..least + 500 {
                assert!(sum_of_worker(max, n_children) <= max, "{n_children} children of {max}");
                let OfWorker { maintenance, engine, handlers, writers, .. } = of_worker(max, n_children);
                assert!(maintenance > 2 && engine > 1 && handlers > 1 && writers > 0, "{n_children} children of {max}");
            }
        }
        assert_eq!(of_worker(45, 1), OfWorker { scribes: 2, maintenance: 9, engine: 3, handlers: 10, writers: 2 });
        assert_eq!(of_worker(18, 1), OfWorker { scribes: 1, maintenance: 3, engine: 2, handlers: 2, writers: 1 });
        assert_eq!(of_worker(60, 4), OfWorker { scribes: 3, maintenance: 9, engine: 2, handlers: 5, writers: 1 });
    }

    #[test]
    fn what_is_announced_fits_the_server_together() {
        for (server, n_apis, n_workers, n_children) in
            [(200, 2, 2, 1), (200, 6, 4, 1), (500, 10, 4, 4), (500, 2, 1, 4), (1_000, 8, 4, 4), (100, 2, 1, 2)]
        {
            let share = share(server, n_apis + n_workers);
            let api = sum_of_api(most(Profile::Maximum, 12).min(share), 12);
            let worker = sum_of_worker(most_of_worker(Profile::Maximum, n_children).min(share), n_children);
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
