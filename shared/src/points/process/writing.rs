//! Batches into the tables: points and the stats of their hours in one transaction, again and again until PostgreSQL takes them. Points that it
//! refuses for what they hold are found by halving, and become dead letters; they hold nothing up.

use super::{
    batch::{Batch, Incoming},
    breaker::Breaker,
    fold::{HourFold, fold, hour_of},
    tracks,
};
use crate::{
    Context, Error, Result,
    points::{
        Point,
        dead::DeadPoint,
        latest, live,
        store::{
            self,
            write::{Inserted, Row},
        },
        upkeep,
    },
    telemetry::metrics::{INGEST_BATCH, INGEST_STORED},
};
use sqlx::PgConnection;
use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Dead letters of one statement.
const DEAD_AT_ONCE: usize = 1_000;

/// How many points a batch brought, and how many a resend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::points) struct Counts {
    pub(super) new: usize,
    pub(super) changed: usize,
    pub(super) unchanged: usize,
}

/// Stores a batch, however long that takes. Returns its points that are in the table now, in the order of track and time; `None` when it was told
/// to stop before that.
pub(super) async fn until_stored<'b>(
    ctx: &Context,
    breaker: &Breaker,
    batch: &'b Batch<'_>,
    stop: &CancellationToken,
) -> Option<Vec<&'b Point<'b>>> {
    loop {
        let pause = match breaker.wait() {
            Some(wait) => wait,
            None => match store(ctx, batch).await {
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

/// An error is one that may pass: the same batch is stored later.
async fn store<'b>(ctx: &Context, batch: &'b Batch<'_>) -> Result<Vec<&'b Point<'b>>> {
    let began = Instant::now();
    let owners = tracks::owners(ctx, batch.track_ids()).await?;
    let sorted_out = batch.sort_out(&owners);
    let mut dead = sorted_out.dead;
    let mut stored = Vec::with_capacity(sorted_out.good.len());
    upkeep::ensure_months(ctx, sorted_out.good.iter().map(|incoming| incoming.point.recorded_at_us)).await?;
    let mut total = Counts { unchanged: sorted_out.n_repeated, ..Counts::default() };
    let mut pieces = vec![&sorted_out.good[..]];
    while let Some(piece) = pieces.pop().filter(|piece| !piece.is_empty()) {
        match write(ctx, &points_of(piece)).await {
            Ok(counts) => {
                total.add(counts);
                stored.extend(piece.iter().map(|incoming| &incoming.point));
            }
            Err(error) if !is_about_data(&error) => return Err(error),
            Err(error) => match piece {
                [one] => dead.extend(refused(ctx, one, &error).await?),
                [..] => {
                    // The first half on top, so that points stay in their order.
                    let (first, second) = piece.split_at(piece.len() / 2);
                    pieces.extend([second, first]);
                }
            },
        }
    }
    bury(ctx, &dead).await?;
    total.tell(dead.len());
    metrics::histogram!(INGEST_BATCH).record(began.elapsed());
    Ok(stored)
}

/// What becomes of a point that was refused: it may have been for something that passed, such as a partition that was being made.
async fn refused(ctx: &Context, one: &Incoming<'_>, error: &Error) -> Result<Option<DeadPoint>> {
    match write(ctx, &[&one.point]).await {
        Ok(_) => Ok(None),
        Err(error) if !is_about_data(&error) => Err(error),
        Err(_) => {
            tracing::warn!(%error, track_id = %one.point.track_id, "a point is refused by the database");
            Ok(Some(one.dead("refused", "The database refuses the point.")))
        }
    }
}

fn points_of<'b>(incoming: &[&'b Incoming<'b>]) -> Vec<&'b Point<'b>> {
    incoming.iter().map(|incoming| &incoming.point).collect()
}

/// One transaction.
async fn write(ctx: &Context, points: &[&Point<'_>]) -> Result<Counts> {
    let mut tx = ctx.pg.begin().await?;
    let counts = write_in(&mut tx, points).await?;
    tx.commit().await?;
    Ok(counts)
}

/// Writes points, which are in the order of track and time and each there once, and what they change of their hours.
pub(in crate::points) async fn write_in(tx: &mut PgConnection, points: &[&Point<'_>]) -> Result<Counts> {
    match store::write::insert(&mut *tx, points).await? {
        Inserted::AllNew => {
            let hours = fold(points);
            add(tx, &hours).await?;
            Ok(Counts { new: points.len(), ..Counts::default() })
        }
        Inserted::Some(rows) => write_hours_of(tx, points, &rows).await,
    }
}

/// New points of hours. Batches of several senders meet within a second or two, so points behind others are as usual as not: both are added.
async fn add(tx: &mut PgConnection, hours: &[HourFold]) -> Result<()> {
    let behind = store::hours::add(&mut *tx, hours).await?;
    let behind: Vec<&HourFold> = hours.iter().filter(|hour| behind.contains(&(hour.track_id, hour.hour_us))).collect();
    store::hours::merge(tx, &behind).await
}

/// Some points were there already: what they change is recomputed, the new ones are added, and an hour without either stays as it is.
async fn write_hours_of(tx: &mut PgConnection, points: &[&Point<'_>], rows: &[Row]) -> Result<Counts> {
    let is_new: HashMap<(Uuid, i64), bool> = rows.iter().map(|row| ((row.track_id, row.recorded_at_us), row.is_new)).collect();
    let (mut fresh, mut touched, mut changed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for point in points {
        match is_new.get(&(point.track_id.0, point.recorded_at_us)) {
            Some(true) => fresh.push(*point),
            Some(false) => drop(changed.insert(hour_of(point))),
            None => continue,
        }
        touched.insert(hour_of(point));
    }
    let n_new = fresh.len();
    // All of them in one order, before anything is computed from what others may be writing.
    store::hours::lock(&mut *tx, &touched).await?;
    fresh.retain(|point| !changed.contains(&hour_of(point)));
    add(tx, &fold(&fresh)).await?;
    store::hours::recompute(tx, &changed).await?;
    Ok(Counts { new: n_new, changed: rows.len() - n_new, unchanged: points.len() - rows.len() })
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
    let cause = error.cause.as_deref().and_then(|cause| cause.downcast_ref::<sqlx::Error>());
    let code = cause.and_then(sqlx::Error::as_database_error).and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

impl Counts {
    fn add(&mut self, more: Self) {
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
