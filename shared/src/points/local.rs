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

/// Requests that send many dead letters again or delete them, at once: one of each user, whose second would find those of the first taken, or wait
/// for its rows. Each holds a connection for seconds.
const DEAD_LETTERS_MAX: usize = 4;
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
    dead_letters: Turns,
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
            dead_letters: Turns::new(DEAD_LETTERS_MAX, "Dead letters are being dealt with already."),
        }
    }

    /// Held while stats are read.
    pub(super) async fn stats_turn(&self, user_id: UserId, waiter: &impl Waiter) -> Result<Turn> {
        self.stats.within(user_id, TURN_WITHIN, waiter).await
    }

    /// Held while dead letters are sent again or deleted.
    pub(super) async fn dead_letters_turn(&self, user_id: UserId) -> Result<Turn> {
        self.dead_letters.within(user_id, TURN_WITHIN, &()).await
    }

    /// Held while points are stored for a caller that waits for the commit.
    pub async fn commit_turn(&self, user_id: UserId, waiter: &impl Waiter) -> Result<Turn> {
        self.commits.within(user_id, TURN_WITHIN, waiter).await
    }
}
