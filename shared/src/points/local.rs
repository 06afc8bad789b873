//! What one process keeps of points between requests and batches. Nothing here is the truth: all of it may vanish at any moment.

use super::{
    depth::Depth,
    live::Live,
    process::{KnownTracks, Limits},
    upkeep::KnownMonths,
};
use crate::{
    Result,
    config::Settings,
    ids::UserId,
    turns::{Turn, Turns, Waiter},
};
use std::time::Duration;

/// Shorter than clients wait for an answer.
const TURN_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct LocalPoints {
    pub(super) depth: Depth,
    pub(super) tracks: KnownTracks,
    pub(super) months: KnownMonths,
    pub(super) live: Live,
    pub(super) limits: Limits,
    /// Stats may sum up millions of hours, and hold a connection meanwhile.
    stats: Turns,
    /// Requests that change points of one hour wait for each other, with a connection each.
    commits: Turns,
}

impl LocalPoints {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            depth: Depth::default(),
            tracks: KnownTracks::default(),
            months: KnownMonths::default(),
            live: Live::default(),
            limits: Limits::of(settings),
            stats: Turns::new(settings.point_stats_max, "Too many stats are being read."),
            commits: Turns::new(settings.point_commits_max, "Too many points are being stored with `durability=postgres`."),
        }
    }

    /// Held while stats are read.
    pub(super) async fn stats_turn(&self, user_id: UserId, waiter: &impl Waiter) -> Result<Turn> {
        self.stats.within(user_id, TURN_WITHIN, waiter).await
    }

    /// Held while points are stored for a caller that waits for the commit.
    pub async fn commit_turn(&self, user_id: UserId, waiter: &impl Waiter) -> Result<Turn> {
        self.commits.within(user_id, TURN_WITHIN, waiter).await
    }
}
