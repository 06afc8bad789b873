//! How many connections a process may have: the rules of `DB_POOL_MIN`, `DB_POOL_MAX` and `REDIS_MAX_CONNECTIONS`.

use crate::config::Profile;

/// Connections of the PostgreSQL server that no pool takes: superusers, migrations, monitoring, backups.
pub const LEFT_TO_OTHERS: u32 = 20;
/// Connections to PostgreSQL of a process that has few workers.
pub const PG_BASE: u32 = 24;
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

    #[test]
    fn pools_grow_with_the_workers_and_stop_at_the_servers_share() {
        assert_eq!((least(12), most(Profile::Production, 6), most(Profile::Maximum, 12)), (24, 60, 240));
        assert_eq!([most(Profile::Production, 1), most(Profile::Development, 2), most(Profile::Maximum, 1)], [24; 3]);
        assert_eq!([share(500, 2), share(200, 3), share(20, 1), share(0, 0)], [240, 60, 1, 1]);
        assert_eq!([redis(Profile::Production, 2), redis(Profile::HighTraffic, 8), redis(Profile::Maximum, 12)], [50, 80, 600]);
    }
}
