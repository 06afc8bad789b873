//! Whose tracks are: remembered for a while, so that a batch looks up only what is new to the process.

use crate::{
    Context, Result,
    ids::{TrackId, UserId},
    tracks,
};
use quick_cache::sync::Cache;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How long a track is taken for granted. What is written to one that was deleted meanwhile is removed with its other points, much later.
const TRUSTED_FOR: Duration = Duration::from_secs(30);
const TRACKS_MAX: usize = 100_000;
/// Of one statement.
const LOOK_UP_MAX: usize = 5_000;

/// The tracks that this process knows, and until when.
#[derive(Debug)]
pub struct KnownTracks(Cache<TrackId, (UserId, Instant)>);

impl Default for KnownTracks {
    fn default() -> Self {
        Self(Cache::new(TRACKS_MAX))
    }
}

/// The owners of `ids`; tracks that are not there are left out. What is not there is looked up every time.
pub(super) async fn owners(ctx: &Context, ids: impl Iterator<Item = TrackId>) -> Result<HashMap<TrackId, UserId>> {
    let known = &ctx.points.tracks.0;
    let now = Instant::now();
    let (mut owners, mut missing) = (HashMap::new(), Vec::<Uuid>::new());
    for id in ids {
        match known.get(&id) {
            Some((owner, until)) if until > now => drop(owners.insert(id, owner)),
            Some(_) | None => missing.push(id.0),
        }
    }
    missing.sort_unstable();
    missing.dedup();
    for ids in missing.chunks(LOOK_UP_MAX) {
        for (id, owner) in tracks::owners(&ctx.pg, ids).await? {
            known.insert(id, (owner, now + TRUSTED_FOR));
            owners.insert(id, owner);
        }
    }
    Ok(owners)
}
