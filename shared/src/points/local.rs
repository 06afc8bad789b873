//! What one process keeps of points between requests and batches. Nothing here is the truth: all of it may vanish at any moment.

use super::{depth::Depth, live::Live, process::KnownTracks, upkeep::KnownMonths};

#[derive(Debug, Default)]
pub struct LocalPoints {
    pub(super) depth: Depth,
    pub(super) tracks: KnownTracks,
    pub(super) months: KnownMonths,
    pub(super) live: Live,
}
