//! Storing points at once, for callers that wait for the commit: the same checks and the same transaction, without a stream.

use super::{
    tracks,
    writing::{self, Counts},
};
use crate::{
    Caller, Code, Context, Error, Result,
    ids::{TrackId, UserId},
    points::{Point, upkeep},
    telemetry::metrics::{APP_MESSAGES, INGEST_ACCEPTED},
};

/// Refuses a track that is not there, or not for the caller to write to. While PostgreSQL is away nobody is refused: whoever stores the points
/// looks again.
pub async fn require_writable(ctx: &Context, caller: &Caller, track_id: TrackId) -> Result<()> {
    match tracks::owners(ctx, std::iter::once(track_id)).await {
        Ok(owners) if owners.get(&track_id).is_some_and(|owner| may_write(caller, *owner)) => Ok(()),
        Ok(_) => Err(Error::not_found("track")),
        Err(error) if error.code == Code::DatabaseUnavailable => Ok(()),
        Err(error) => Err(error),
    }
}

fn may_write(caller: &Caller, owner: UserId) -> bool {
    owner == caller.user_id || caller.sees_all()
}

/// Which of the points, by their places, are of tracks that are not there or not for the caller to write to.
pub async fn unknown(ctx: &Context, caller: &Caller, points: &[Point<'_>]) -> Result<Vec<usize>> {
    let owners = tracks::owners(ctx, points.iter().map(|point| point.track_id)).await?;
    let is_unknown = |point: &Point<'_>| owners.get(&point.track_id).is_none_or(|owner| !may_write(caller, *owner));
    Ok(points.iter().enumerate().filter(|(_, point)| is_unknown(point)).map(|(at, _)| at).collect())
}

/// When it returns, the points are committed.
pub async fn store(ctx: &Context, points: &[Point<'_>]) -> Result<()> {
    let mut ordered: Vec<&Point<'_>> = points.iter().collect();
    ordered.sort_by_key(|point| (point.track_id, point.recorded_at_us));
    // Of the same track and time the last that was sent is last, and stays.
    ordered.reverse();
    ordered.dedup_by_key(|point| (point.track_id, point.recorded_at_us));
    ordered.reverse();
    upkeep::ensure_months(ctx, ordered.iter().map(|point| point.recorded_at_us)).await?;
    let mut tx = ctx.pg.begin().await?;
    let counts = writing::write_in(&mut tx, &ordered).await?;
    tx.commit().await?;
    Counts { unchanged: counts.unchanged + points.len() - ordered.len(), ..counts }.tell(0);
    metrics::counter!(INGEST_ACCEPTED, "to" => "postgres").increment(points.len() as u64);
    metrics::counter!(APP_MESSAGES).increment(points.len() as u64);
    writing::tell(ctx, &ordered).await;
    Ok(())
}
