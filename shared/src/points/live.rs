//! What is told of points on the channels `track:<id>` while somebody is subscribed: at most ten publications a second of each track, with its
//! newest points.
//!
//! A process with subscribers marks their tracks in Redis ([`follow`]), and those who store points look at the marks. What they store of marked
//! tracks is gathered, and published by a task of the process.

use super::{Point, PointView, shard};
use crate::{
    Context, Error, Result,
    channels::{Channel, NewPublication, publish},
    clock::unix_ms,
    ids::TrackId,
    vital::steadily,
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::value::to_raw_value;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};

/// Between two publications on the channel of one track.
const EVERY: Duration = Duration::from_millis(100);
/// Points of one publication: what came before them is for who reads the track. With attributes of a kibibyte they are still within what a
/// publication may be.
const POINTS_MAX: usize = 40;
/// Marks end after this unless they are renewed: what a process leaves that was killed.
const MARK_TTL: Duration = Duration::from_mins(1);
/// How old the marks may be that a process goes by.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Marks of one shard that are looked at.
const MARKS_MAX: usize = 100_000;
/// Publications at the same time.
const AT_ONCE: usize = 16;

/// Of one process.
#[derive(Debug, Default)]
pub struct Live {
    /// Tracks that this process has subscribers of.
    followed: Mutex<HashSet<TrackId>>,
    is_marking: AtomicBool,
    /// By shard: the tracks that anybody follows, and when that was looked up.
    watched: Mutex<HashMap<u16, (Instant, HashSet<TrackId>)>>,
    /// What is to be told.
    gathered: Mutex<HashMap<TrackId, Gathered>>,
    is_telling: AtomicBool,
}

#[derive(Debug, Default)]
struct Gathered {
    n_points: usize,
    newest: VecDeque<PointView>,
}

/// An event as subscribers see it.
#[derive(Debug, Serialize)]
struct Told {
    event: &'static str,
    track_id: TrackId,
    /// How many were stored since the publication before.
    count: usize,
    /// The newest of them, in the order of their time.
    points: VecDeque<PointView>,
}

/// The track of a channel. An id has other spellings, and those are nobody's channels.
pub fn track_of(channel: &Channel) -> Option<TrackId> {
    let id: TrackId = channel.rest().parse().ok()?;
    (id.to_string() == channel.rest()).then_some(id)
}

/// Begins to tell what is stored of the track of `channel`. Points that are stored within the next moment may not be told.
pub async fn follow(ctx: &Context, channel: &Channel) -> Result<()> {
    let id = track_of(channel).ok_or_else(|| Error::not_found("track"))?;
    let live = &ctx.points.live;
    lock(&live.followed).insert(id);
    if !live.is_marking.swap(true, Ordering::Relaxed) {
        let ctx = ctx.for_process();
        ctx.jobs.runtime.clone().spawn(async move { steadily("marks of tracks", || keep_marks(&ctx)).await });
    }
    mark(ctx, &[id]).await
}

/// Ends what [`follow`] began; the mark runs out by itself, since another process may follow the track too.
pub fn unfollow(ctx: &Context, channel: &Channel) {
    if let Some(id) = track_of(channel) {
        lock(&ctx.points.live.followed).remove(&id);
    }
}

async fn keep_marks(ctx: &Context) {
    let mut ticks = interval(MARK_TTL / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ids: Vec<TrackId> = lock(&ctx.points.live.followed).iter().copied().collect();
        if let Err(error) = mark(ctx, &ids).await {
            tracing::debug!(%error, "who follows tracks is not known to others at the moment");
        }
    }
}

async fn mark(ctx: &Context, ids: &[TrackId]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let now_ms = unix_ms(ctx.clock.now());
    let until_ms = now_ms + i64::try_from(MARK_TTL.as_millis()).expect("a minute in milliseconds");
    let mut pipe = redis::pipe();
    for id in ids {
        let key = ctx.keys.points_watched(shard::of(*id, shard::count(ctx)));
        pipe.zadd(&key, id.to_string(), until_ms).ignore();
        pipe.cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now_ms).ignore();
    }
    Ok(pipe.exec_async(&mut ctx.redis.connection()).await?)
}

/// Gathers what was stored of tracks that somebody follows. `points` are in the order of track and time.
pub(super) async fn tell(ctx: &Context, points: &[&Point<'_>]) {
    let n_shards = shard::count(ctx);
    let shards: HashSet<u16> = points.iter().map(|point| shard::of(point.track_id, n_shards)).collect();
    for shard in shards {
        if let Err(error) = look(ctx, shard).await {
            tracing::debug!(%error, "who follows tracks is not known at the moment");
        }
    }
    let live = &ctx.points.live;
    let mut is_told = false;
    {
        let watched = lock(&live.watched);
        let mut gathered = lock(&live.gathered);
        for of_track in points.chunk_by(|one, next| one.track_id == next.track_id) {
            let id = of_track[0].track_id;
            if watched.get(&shard::of(id, n_shards)).is_none_or(|(_, ids)| !ids.contains(&id)) {
                continue;
            }
            let gathered = gathered.entry(id).or_default();
            gathered.n_points += of_track.len();
            gathered.newest.extend(of_track[of_track.len().saturating_sub(POINTS_MAX)..].iter().map(|point| PointView::from(*point)));
            let n_surplus = gathered.newest.len().saturating_sub(POINTS_MAX);
            gathered.newest.drain(..n_surplus);
            is_told = true;
        }
    }
    if is_told && !live.is_telling.swap(true, Ordering::Relaxed) {
        let ctx = ctx.for_process();
        ctx.jobs.runtime.clone().spawn(async move { steadily("points of tracks", || tell_all(&ctx)).await });
    }
}

/// Looks the marks of a shard up unless that was done a moment ago.
async fn look(ctx: &Context, shard: u16) -> Result<()> {
    let is_fresh = |(at, _): &(Instant, HashSet<TrackId>)| at.elapsed() < LOOK_EVERY;
    if lock(&ctx.points.live.watched).get(&shard).is_some_and(is_fresh) {
        return Ok(());
    }
    let mut cmd = redis::cmd("ZRANGEBYSCORE");
    cmd.arg(ctx.keys.points_watched(shard)).arg(unix_ms(ctx.clock.now())).arg("+inf").arg("LIMIT").arg(0).arg(MARKS_MAX);
    let ids: Vec<String> = cmd.query_async(&mut ctx.redis.connection()).await?;
    let ids = ids.iter().filter_map(|id| id.parse().ok()).collect();
    lock(&ctx.points.live.watched).insert(shard, (Instant::now(), ids));
    Ok(())
}

async fn tell_all(ctx: &Context) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let gathered = std::mem::take(&mut *lock(&ctx.points.live.gathered));
        let told = stream::iter(gathered).for_each_concurrent(AT_ONCE, async |(track_id, mut gathered)| {
            gathered.newest.make_contiguous().sort_by_key(|point| point.recorded_at);
            let told = Told { event: "points", track_id, count: gathered.n_points, points: gathered.newest };
            if let Err(error) = publish_one(ctx, &told).await {
                tracing::debug!(%error, %track_id, "points of a track are not told");
            }
        });
        told.await;
    }
}

async fn publish_one(ctx: &Context, told: &Told) -> Result<()> {
    let channel = ctx.namespaces.resolve(&format!("track:{}", told.track_id))?;
    let data = to_raw_value(told).map_err(Error::internal)?;
    publish(ctx, &channel, &NewPublication::ours(&data)).await?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
