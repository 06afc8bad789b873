//! What one process keeps of points between requests and batches. Nothing here is the truth: all of it may vanish at any moment.

use super::{
    depth::Depth,
    live::Live,
    process::{KnownTracks, Limits},
    upkeep::KnownMonths,
};
use crate::{
    Code, Error, Result,
    ids::UserId,
    turns::{Turn, Turns},
};
use std::time::Duration;

/// Stats that are read at once, a quarter of them for one user: they may sum up millions of hours, and hold a connection meanwhile.
const STATS_AT_ONCE: usize = 4;
/// Requests with `durability=postgres` that are stored at once, a quarter of them of one user: those that change points of one hour wait for each
/// other, with a connection each.
const DURABLE_AT_ONCE: usize = 32;
/// Shorter than clients wait for an answer.
const TURN_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct LocalPoints {
    pub(super) depth: Depth,
    pub(super) tracks: KnownTracks,
    pub(super) months: KnownMonths,
    pub(super) live: Live,
    /// As they are by default: a field, so that tests have smaller ones.
    pub(super) limits: Limits,
    pub(super) stats: Turns,
    pub(super) durable: Turns,
}

impl Default for LocalPoints {
    fn default() -> Self {
        Self {
            depth: Depth::default(),
            tracks: KnownTracks::default(),
            months: KnownMonths::default(),
            live: Live::default(),
            limits: Limits::default(),
            stats: Turns::new(STATS_AT_ONCE),
            durable: Turns::new(DURABLE_AT_ONCE),
        }
    }
}

impl LocalPoints {
    /// Held while stats are read.
    pub(super) async fn stats_turn(&self, user_id: UserId) -> Result<Turn> {
        self.stats.within(user_id, TURN_WITHIN).await.ok_or_else(|| busy("Too many stats are being read."))
    }

    /// Held while points are stored for a caller that waits for the commit.
    pub async fn durable_turn(&self, user_id: UserId) -> Result<Turn> {
        self.durable.within(user_id, TURN_WITHIN).await.ok_or_else(|| busy("Too many points are being stored with `durability=postgres`."))
    }
}

fn busy(what: &'static str) -> Error {
    Error::new(Code::Overloaded, what).retry_after(Duration::from_secs(rand::random_range(1..=3)))
}
