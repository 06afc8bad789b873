//! Which stream a track's points go through: always the same one, so that they stay in order.

use crate::{Context, ids::TrackId};

/// Most shards that there may be.
pub(super) const SHARDS_MAX: u16 = 64;

pub(super) fn count(ctx: &Context) -> u16 {
    ctx.settings().ingest_shards
}

/// Every process must come to the same: the low half of an id is random, and its product spreads ids of other makings too.
pub(super) fn of(track_id: TrackId, n_shards: u16) -> u16 {
    let mixed = (track_id.0.as_u64_pair().1 ^ track_id.0.as_u64_pair().0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    u16::try_from((mixed >> 32) % u64::from(n_shards.max(1))).expect("below the number of shards")
}
