//! Batches into the tables, again and again until PostgreSQL takes them: all of a batch in one transaction, or in pieces where that would be too
//! much for one. Points that PostgreSQL refuses for what they hold are found by halving, and become dead letters; they hold nothing up.

use super::{
    batch::{Batch, Incoming},
    breaker::Breaker,
    fold::hour_of,
    tracks,
    transaction::{Counts, Unwritten, key, write},
};
use crate::{
    Context, Error, Result,
    points::{Point, dead::DeadPoint, latest, live, store, upkeep},
    telemetry::metrics::{INGEST_BATCH, INGEST_STORED},
};
use std::{borrow::Cow, time::Instant};
use tokio_util::sync::CancellationToken;

/// Dead letters of one statement.
const DEAD_AT_ONCE: usize = 1_000;
/// Statements that may take too long in one try of a batch: after that, others are let through first.
const TIMEOUTS_MAX: u32 = 3;
/// Points of one hour that are not parted because a statement took too long: each part might have to read the hour again.
const OF_HOUR_MIN: usize = 1_000;

/// Stores a batch, however long that takes. Returns its points that are in the table now, in the order of track and time; `None` when it was told
/// to stop before that.
pub(super) async fn until_stored<'b>(
    ctx: &Context,
    breaker: &Breaker,
    batch: &'b Batch<'_>,
    stop: &CancellationToken,
) -> Option<Vec<&'b Point<'b>>> {
    let mut points_max = usize::MAX;
    loop {
        let pause = match breaker.wait() {
            Some(wait) => wait,
            None => match store(ctx, batch, &mut points_max).await {
                Ok(stored) => {
                    breaker.succeeded();
                    return Some(stored);
                }
                Err(error) => breaker.failed(&error),
            },
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return None,
        }
    }
}

/// Tells others of points that were stored; nothing is lost when it fails.
pub(super) async fn tell(ctx: &Context, stored: &[&Point<'_>]) {
    let of_tracks = stored.chunk_by(|one, next| one.track_id == next.track_id);
    let newest: Vec<&Point<'_>> = of_tracks.filter_map(|of_track| of_track.last().copied()).collect();
    latest::remember(ctx, &newest).await;
    live::tell(ctx, stored).await;
}

/// An error is one that may pass: the same batch is stored later, in pieces of `points_max`. These become smaller when a statement takes too long,
/// which says nothing against the points (the disk may be slow), but must not have the same be tried for ever.
async fn store<'b>(ctx: &Context, batch: &'b Batch<'_>, points_max: &mut usize) -> Result<Vec<&'b Point<'b>>> {
    let began = Instant::now();
    let owners = tracks::owners(ctx, batch.track_ids()).await?;
    let sorted_out = batch.sort_out(&owners);
    let mut dead = sorted_out.dead;
    let mut stored = Vec::with_capacity(sorted_out.good.len());
    upkeep::ensure_months(ctx, sorted_out.good.iter().map(|incoming| incoming.point.recorded_at_us)).await?;
    let repeated = Counts { unchanged: sorted_out.n_repeated, ..Counts::default() };
    let mut n_timeouts = 0;
    let mut pieces = vec![sorted_out.good];
    while let Some(piece) = pieces.pop() {
        if piece.is_empty() {
            continue;
        }
        if piece.len() > *points_max && is_worth_parting(&piece) {
            pieces.extend(halves(piece, |incoming| &incoming.point));
            continue;
        }
        match write(ctx, &points_of(&piece)).await {
            Ok(counts) => {
                counts.tell(0);
                stored.extend(piece.iter().map(|incoming| &incoming.point));
            }
            Err(Unwritten::TooMuch) => pieces.extend(halves(piece, |incoming| &incoming.point)),
            Err(Unwritten::HoursFull(points)) => {
                let (refused, rest): (Vec<_>, Vec<_>) = piece.into_iter().partition(|incoming| points.contains(&key(&incoming.point)));
                dead.extend(refused.iter().map(|incoming| hour_full(incoming)));
                pieces.push(rest);
            }
            Err(Unwritten::Failed(error)) if took_too_long(&error) && is_worth_parting(&piece) => {
                *points_max = piece.len() / 2;
                n_timeouts += 1;
                if n_timeouts == TIMEOUTS_MAX {
                    return Err(error);
                }
                pieces.extend(halves(piece, |incoming| &incoming.point));
            }
            Err(Unwritten::Failed(error)) if !is_about_data(&error) => return Err(error),
            Err(Unwritten::Failed(error)) => match piece[..] {
                [one] => dead.extend(refused(ctx, one, &error).await?),
                [..] => pieces.extend(halves(piece, |incoming| &incoming.point)),
            },
        }
    }
    bury(ctx, &dead).await?;
    repeated.tell(dead.len());
    metrics::histogram!(INGEST_BATCH).record(began.elapsed());
    Ok(stored)
}

/// What becomes of a point that was refused: it may have been for something that passed, such as a partition that was being made.
async fn refused(ctx: &Context, one: &Incoming<'_>, error: &Error) -> Result<Option<DeadPoint>> {
    match write(ctx, &[&one.point]).await {
        Ok(_) => Ok(None),
        Err(Unwritten::HoursFull(_)) => Ok(Some(hour_full(one))),
        Err(Unwritten::Failed(error)) if !is_about_data(&error) => Err(error),
        Err(Unwritten::Failed(_) | Unwritten::TooMuch) => {
            tracing::warn!(%error, track_id = %one.point.track_id, "a point is refused by the database");
            Ok(Some(one.dead("refused", "The database refuses the point.")))
        }
    }
}

fn hour_full(one: &Incoming<'_>) -> DeadPoint {
    one.dead("hour_full", "The hour of the point has as many points as an hour of a track may have.")
}

/// The two halves of a piece, the first one last: it is what is popped next, so that points stay in their order. They are parted between two hours
/// if there are several, so that none is read twice.
pub(super) fn halves<T>(mut piece: Vec<T>, point_of: impl Fn(&T) -> &Point<'_>) -> [Vec<T>; 2] {
    let middle = piece.len() / 2;
    let is_between = |at: &usize| hour_of(point_of(&piece[*at - 1])) != hour_of(point_of(&piece[*at]));
    let between = (1..piece.len()).filter(is_between).min_by_key(|at| at.abs_diff(middle));
    let second = piece.split_off(between.unwrap_or(middle));
    [second, piece]
}

fn is_worth_parting(piece: &[&Incoming<'_>]) -> bool {
    let ends = piece.first().zip(piece.last());
    piece.len() > OF_HOUR_MIN || ends.is_some_and(|(first, last)| hour_of(&first.point) != hour_of(&last.point))
}

fn points_of<'b>(incoming: &[&'b Incoming<'b>]) -> Vec<&'b Point<'b>> {
    incoming.iter().map(|incoming| &incoming.point).collect()
}

/// Writes dead letters; those that are there already stay as they are.
async fn bury(ctx: &Context, dead: &[DeadPoint]) -> Result<()> {
    for dead in dead.chunks(DEAD_AT_ONCE) {
        store::dead::insert(&ctx.pg, dead).await?;
    }
    Ok(())
}

/// Whether the database refused what a point holds (classes 22, data; 23, constraints; 54, limits), which another try does not change.
fn is_about_data(error: &Error) -> bool {
    code_of(error).is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

/// `DB_STATEMENT_TIMEOUT_MS` passed.
fn took_too_long(error: &Error) -> bool {
    code_of(error).is_some_and(|code| code == "57014")
}

fn code_of(error: &Error) -> Option<Cow<'_, str>> {
    let cause = error.cause.as_deref().and_then(|cause| cause.downcast_ref::<sqlx::Error>());
    cause.and_then(sqlx::Error::as_database_error).and_then(sqlx::error::DatabaseError::code)
}

impl Counts {
    pub(super) fn add(&mut self, more: Self) {
        self.new += more.new;
        self.changed += more.changed;
        self.unchanged += more.unchanged;
    }

    pub(super) fn tell(self, n_dead: usize) {
        for (outcome, n_points) in [("new", self.new), ("changed", self.changed), ("unchanged", self.unchanged), ("dead", n_dead)] {
            if n_points > 0 {
                metrics::counter!(INGEST_STORED, "outcome" => outcome).increment(n_points as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TrackId;
    use rstest::rstest;
    use uuid::Uuid;

    #[rstest]
    #[case::between_hours(&[0, 1, 2, 3, 1_000], 4)]
    #[case::nearest_to_the_middle(&[0, 1_000, 1_001, 2_000, 2_001, 2_002], 3)]
    #[case::within_an_hour(&[0, 1, 2, 3, 4], 2)]
    fn pieces_are_parted_between_hours(#[case] thousandths_of_hours: &[i64], #[case] at: usize) {
        let point = |n: &i64| Point {
            track_id: TrackId(Uuid::from_u128(7)),
            recorded_at_us: n * 3_600_000,
            lat: 0.0,
            lon: 0.0,
            altitude_m: None,
            speed_mps: None,
            heading_deg: None,
            accuracy_m: None,
            attributes: None,
        };
        let points: Vec<Point<'_>> = thousandths_of_hours.iter().map(point).collect();
        let [second, first] = halves(points.iter().collect(), |point| point);
        assert_eq!((first.len(), second.len()), (at, points.len() - at));
        assert_eq!(first.last(), Some(&&points[at - 1]));
    }
}
