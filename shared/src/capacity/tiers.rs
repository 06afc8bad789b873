//! What numbers of concurrent users ask for: threads of the API, job slots, machines. The figures are those that operators of
//! process-per-worker stacks size by; edges belong to the upper row.

use crate::config::Profile;
use serde::Serialize;
use std::ops::RangeInclusive;
use utoipa::ToSchema;

/// How many users there are, in four steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Fewer than 1,000 users: 4 threads, 4 job slots.
    Low,
    /// Fewer than 10,000: 8 and 8.
    Medium,
    /// Fewer than 50,000: 12 and 12, twice.
    High,
    /// More: 12 and 12, four times, behind a balancer.
    Extreme,
}

impl Tier {
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Extreme];

    pub const fn of(users: u64) -> Self {
        match users {
            0..1_000 => Self::Low,
            1_000..10_000 => Self::Medium,
            10_000..50_000 => Self::High,
            50_000.. => Self::Extreme,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Extreme => "extreme",
        }
    }

    /// Threads of the API, over all machines.
    pub const fn api_threads(self) -> u32 {
        match self {
            Self::Low => 4,
            Self::Medium => 8,
            Self::High => 12 * 2,
            Self::Extreme => 12 * 4,
        }
    }

    /// Jobs that run at once in one worker.
    pub const fn job_slots(self) -> u32 {
        match self {
            Self::Low => 4,
            Self::Medium => 8,
            Self::High | Self::Extreme => 12,
        }
    }

    /// Workers, each with its slots.
    pub const fn workers(self) -> u32 {
        match self {
            Self::Low | Self::Medium => 1,
            Self::High => 2,
            Self::Extreme => 4,
        }
    }

    /// Machines at the least.
    pub const fn nodes(self) -> u32 {
        self.workers()
    }

    /// The profile whose defaults are nearest.
    pub const fn profile(self) -> Profile {
        match self {
            Self::Low => Profile::Production,
            Self::Medium => Profile::HighTraffic,
            Self::High | Self::Extreme => Profile::Maximum,
        }
    }
}

/// Connected users for each thread of the API, beyond what the tiers have threads for: two threads held 19,000 sockets when measured.
pub const USERS_OF_THREAD: u64 = 10_000;

/// Users above which the answer is another machine and not another thread.
pub const USERS_OF_ONE_NODE: u64 = 2_000;

/// Threads of the API by users, on one machine: a range where the machine decides.
pub const fn threads_by_users(users: u64) -> RangeInclusive<u32> {
    match users {
        0..100 => 2..=4,
        100..500 => 4..=4,
        500..1_000 => 6..=6,
        1_000.. => 8..=8,
    }
}

/// Workers that each profile is meant to run with.
pub const fn workers_of(profile: Profile) -> u32 {
    match profile {
        Profile::Development | Profile::Staging | Profile::Production => 1,
        Profile::HighTraffic | Profile::Maximum => 2,
    }
}

/// How much of a machine's cores the threads of the API take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Band {
    /// At most two thirds of the cores: room for PostgreSQL and Redis beside it.
    Conservative,
    /// At most as many as cores.
    Moderate,
    /// At most one and a half times as many.
    Aggressive,
}

impl Band {
    /// Most threads on so many cores; one at the least.
    pub const fn threads(self, cores: u32) -> u32 {
        let threads = match self {
            Self::Conservative => cores * 2 / 3,
            Self::Moderate => cores,
            Self::Aggressive => cores * 3 / 2,
        };
        if threads == 0 { 1 } else { threads }
    }

    /// The most cautious one that has room for so many threads.
    pub const fn of(threads: u32, cores: u32) -> Self {
        match threads {
            few if few <= Self::Conservative.threads(cores) => Self::Conservative,
            some if some <= Self::Moderate.threads(cores) => Self::Moderate,
            _ => Self::Aggressive,
        }
    }

    pub const fn rule(self) -> &'static str {
        match self {
            Self::Conservative => "conservative: 2/3 of the cores",
            Self::Moderate => "moderate: as many as cores",
            Self::Aggressive => "aggressive: up to 1.5 × the cores",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_begin_where_the_table_says() {
        let edges =
            [(0, "low"), (999, "low"), (1_000, "medium"), (9_999, "medium"), (10_000, "high"), (49_999, "high"), (50_000, "extreme")];
        for (users, tier) in edges {
            assert_eq!(Tier::of(users).as_str(), tier, "{users} users");
        }
        let rows = Tier::ALL.map(|tier| (tier.api_threads(), tier.job_slots() * tier.workers()));
        assert_eq!(rows, [(4, 4), (8, 8), (24, 24), (48, 48)]);
    }

    #[test]
    fn threads_by_users_change_where_the_table_says() {
        let edges = [(0, 2..=4), (99, 2..=4), (100, 4..=4), (499, 4..=4), (500, 6..=6), (999, 6..=6), (1_000, 8..=8), (2_000, 8..=8)];
        for (users, threads) in edges {
            assert_eq!(threads_by_users(users), threads, "{users} users");
        }
    }

    #[test]
    fn bands_are_parts_of_the_cores() {
        let of = |cores| [Band::Conservative, Band::Moderate, Band::Aggressive].map(|band| band.threads(cores));
        assert_eq!([of(1), of(4), of(6), of(12)], [[1, 1, 1], [2, 4, 6], [4, 6, 9], [8, 12, 18]]);
        assert_eq!([Band::of(2, 4), Band::of(3, 4), Band::of(5, 4)], [Band::Conservative, Band::Moderate, Band::Aggressive]);
    }
}
