//! The latest point of each track: kept in Redis as points are stored, and read from the table when it is not there.

use super::{Point, PointView, shard, store};
use crate::{Caller, Code, Context, Error, Result, ids::TrackId, tracks::manage};
use redis::Script;
use serde_json::value::{RawValue, to_raw_value};
use std::{collections::HashMap, sync::LazyLock};

static REMEMBER: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("latest.lua")));

/// Digits of the microseconds before the JSON: enough for the year 9999.
const TIME_DIGITS: usize = 18;
/// Tracks that one call of the script takes: it holds up everybody else for as long as it runs.
const TRACKS_AT_ONCE: usize = 500;

/// The latest point of a track, as JSON of a [`PointView`].
pub async fn latest(ctx: &Context, caller: &Caller, track_id: TrackId) -> Result<Box<RawValue>> {
    manage::require_readable(ctx, caller, track_id).await?;
    match remembered(ctx, track_id).await {
        Ok(Some(point)) => return Ok(point),
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "a latest point is read from the table"),
    }
    let point = store::read::latest(&ctx.pg, track_id).await?;
    let point = point.ok_or_else(|| Error::new(Code::NotFound, "The track has no points yet."))?;
    to_raw_value(&PointView::from(point)).map_err(Error::internal)
}

async fn remembered(ctx: &Context, track_id: TrackId) -> Result<Option<Box<RawValue>>> {
    let mut cmd = redis::cmd("HGET");
    cmd.arg(ctx.keys.points_latest(shard::of(track_id, shard::count(ctx)))).arg(track_id.to_string());
    let known: Option<String> = cmd.query_async(&mut ctx.redis.connection()).await?;
    Ok(known.and_then(|text| RawValue::from_string(text.get(TIME_DIGITS..)?.to_owned()).ok()))
}

/// Remembers the latest of `points` of each track. They are in the table already, so that a failure loses nothing.
pub(super) async fn remember(ctx: &Context, newest: &[&Point<'_>]) {
    let n_shards = shard::count(ctx);
    let mut by_shard: HashMap<u16, Vec<&Point<'_>>> = HashMap::new();
    for point in newest {
        by_shard.entry(shard::of(point.track_id, n_shards)).or_default().push(point);
    }
    for (shard, points) in by_shard {
        for points in points.chunks(TRACKS_AT_ONCE) {
            let mut call = REMEMBER.key(ctx.keys.points_latest(shard));
            for point in points {
                let json = serde_json::to_string(&PointView::from(*point)).expect("a point is plain data");
                call.arg(point.track_id.to_string()).arg(format!("{:0TIME_DIGITS$}{json}", point.recorded_at_us));
            }
            if let Err(error) = call.invoke_async::<i64>(&mut ctx.redis.connection()).await {
                tracing::debug!(%error, "latest points are behind until others come");
            }
        }
    }
}

/// Of a track that was deleted.
pub(crate) async fn forget(ctx: &Context, track_id: TrackId) {
    let mut cmd = redis::cmd("HDEL");
    cmd.arg(ctx.keys.points_latest(shard::of(track_id, shard::count(ctx)))).arg(track_id.to_string());
    if let Err(error) = cmd.exec_async(&mut ctx.redis.connection()).await {
        tracing::debug!(%error, "the latest point of a deleted track stays until its points are removed");
    }
}
