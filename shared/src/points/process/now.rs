//! Storing points at once, for callers that wait for the commit: the same checks and the same transaction, without a stream.

use super::{
    tracks,
    transaction::{Counts, Unwritten, key, write},
    writing::{self, halves},
};
use crate::{
    Caller, Code, Context, Error, Result,
    ids::{TrackId, UserId},
    points::{Point, time::to_time, upkeep},
    telemetry::metrics::{APP_MESSAGES, INGEST_ACCEPTED},
};
use time::format_description::well_known::Rfc3339;

/// Points of full hours that are told: the first ones say enough.
const TOLD_MAX: usize = 100;

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

/// When it returns, the points are committed. What is too much for one transaction is written in several: after an error some of the points may be
/// there, and sending all of them again does no harm.
pub async fn store(ctx: &Context, points: &[Point<'_>]) -> Result<()> {
    let mut ordered: Vec<&Point<'_>> = points.iter().collect();
    ordered.sort_by_key(|point| (point.track_id, point.recorded_at_us));
    // Of the same track and time the last that was sent is last, and stays.
    ordered.reverse();
    ordered.dedup_by_key(|point| (point.track_id, point.recorded_at_us));
    ordered.reverse();
    upkeep::ensure_months(ctx, ordered.iter().map(|point| point.recorded_at_us)).await?;
    let mut counts = Counts::default();
    let mut pieces = vec![ordered.clone()];
    while let Some(piece) = pieces.pop() {
        match write(ctx, &piece).await {
            Ok(of_piece) => counts.add(of_piece),
            Err(Unwritten::TooMuch) => pieces.extend(halves(piece, |point| point)),
            // The first try finds all of them: nothing is stored then, unless an hour has become full meanwhile.
            Err(Unwritten::HoursFull(full)) => return Err(hours_full(points.iter().filter(|point| full.contains(&key(point))))),
            Err(Unwritten::Failed(error)) => return Err(error),
        }
    }
    Counts { unchanged: counts.unchanged + points.len() - ordered.len(), ..counts }.tell(0);
    metrics::counter!(INGEST_ACCEPTED, "to" => "postgres").increment(points.len() as u64);
    metrics::counter!(APP_MESSAGES).increment(points.len() as u64);
    writing::tell(ctx, &ordered).await;
    Ok(())
}

/// By what a point is known by: the caller may have left out some of the request, and so its place is not known here.
fn hours_full<'p>(points: impl Iterator<Item = &'p Point<'p>>) -> Error {
    points.take(TOLD_MAX).fold(Error::new(Code::ValidationFailed, "A point is of an hour that is full."), |error, point| {
        let at = to_time(point.recorded_at_us).and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
        let (track, what) = (point.track_id, "whose hour has as many points as an hour of a track may have");
        error.with_field("", "hour_full", format!("holds the point of track {track} at {at}, {what}"))
    })
}
