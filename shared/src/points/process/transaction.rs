//! One transaction: points, and what they change of their hours. What is computed from points that are there already is bounded, however many
//! of them an hour has: whoever sends points must not decide how long a statement takes.

use super::fold::{HourFold, fold, hour_of, hour_start};
use crate::{
    Context, Error, Result,
    config::Settings,
    points::{
        Point,
        store::{
            self,
            hours::Hour,
            write::{Inserted, Row},
        },
    },
};
use sqlx::PgConnection;
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// What one transaction may have to read, and what an hour may hold.
#[derive(Debug, Clone, Copy)]
pub(in crate::points) struct Limits {
    /// Points that are read again in one transaction, for all of its hours together. One hour is always computed, however many it has.
    pub(in crate::points) read_again: i64,
    /// Points of an hour of a track from which on nothing changes it. No more than `read_again`.
    pub(in crate::points) of_hour: i64,
}

/// Read in about a second.
const READ_AGAIN: i64 = 500_000;

impl Limits {
    pub(in crate::points) fn of(settings: &Settings) -> Self {
        let of_hour = settings.points_per_hour_max.into();
        Self { read_again: READ_AGAIN.max(of_hour), of_hour }
    }
}

/// A point by its track and time.
pub(super) type Key = (Uuid, i64);

/// Why nothing of a transaction may be committed.
#[derive(Debug)]
pub(in crate::points) enum Unwritten {
    /// Several hours would be read again that have too many points together: fewer at once are not too many.
    TooMuch,
    /// Points that are new or changed, of hours that are full.
    HoursFull(HashSet<Key>),
    Failed(Error),
}

impl From<Error> for Unwritten {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// How many points a batch brought, and how many a resend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::points) struct Counts {
    pub(super) new: usize,
    pub(super) changed: usize,
    pub(super) unchanged: usize,
}

pub(super) fn key(point: &Point<'_>) -> Key {
    (point.track_id.0, point.recorded_at_us)
}

/// One transaction.
pub(super) async fn write(ctx: &Context, points: &[&Point<'_>]) -> Result<Counts, Unwritten> {
    let mut tx = ctx.pg.begin().await.map_err(Error::from)?;
    let counts = write_in(&mut tx, points, ctx.points.limits).await?;
    tx.commit().await.map_err(Error::from)?;
    Ok(counts)
}

/// Writes points, which are in the order of track and time and each there once, and what they change of their hours.
pub(in crate::points) async fn write_in(tx: &mut PgConnection, points: &[&Point<'_>], limits: Limits) -> Result<Counts, Unwritten> {
    match store::write::insert(&mut *tx, points).await? {
        Inserted::AllNew => {
            let full = add(tx, &fold(points), limits).await?;
            refuse_of(&full, points.iter().map(|point| key(point)))?;
            Ok(Counts { new: points.len(), ..Counts::default() })
        }
        Inserted::Some(rows) => write_hours_of(tx, points, &rows, limits).await,
    }
}

/// New points of hours. Batches of several senders meet within a second or two, so points behind others are as usual as not: both are added.
/// Returns the hours that are full.
async fn add(tx: &mut PgConnection, hours: &[HourFold], limits: Limits) -> Result<BTreeSet<Hour>, Unwritten> {
    let left = store::hours::add(&mut *tx, hours, limits.of_hour).await?;
    if left.is_empty() {
        return Ok(left);
    }
    let had = store::hours::counts(&mut *tx, &left).await?;
    let full = full(&had, limits);
    if !full.is_empty() {
        return Ok(full);
    }
    let behind: Vec<&HourFold> = hours.iter().filter(|hour| left.contains(&(hour.track_id, hour.hour_us))).collect();
    // What lies between new points of an hour is read; of one alone these are its neighbours.
    let apart: Vec<&HourFold> = behind.iter().copied().filter(|hour| hour.first.at_us < hour.last.at_us).collect();
    let most: i64 = apart.iter().filter_map(|hour| had.get(&(hour.track_id, hour.hour_us))).sum();
    // They are counted only where they might be too many: counting costs little beside reading, but not nothing.
    if apart.len() > 1 && most > limits.read_again && store::hours::are_more_between(&mut *tx, &apart, limits.read_again).await? {
        return Err(Unwritten::TooMuch);
    }
    store::hours::merge(tx, &behind).await?;
    Ok(full)
}

/// Some points were there already: what they change is recomputed, the new ones are added, and an hour without either stays as it is.
async fn write_hours_of(tx: &mut PgConnection, points: &[&Point<'_>], rows: &[Row], limits: Limits) -> Result<Counts, Unwritten> {
    let is_new: HashMap<Key, bool> = rows.iter().map(|row| ((row.track_id, row.recorded_at_us), row.is_new)).collect();
    let (mut fresh, mut touched, mut changed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for point in points {
        match is_new.get(&key(point)) {
            Some(true) => fresh.push(*point),
            Some(false) => drop(changed.insert(hour_of(point))),
            None => continue,
        }
        touched.insert(hour_of(point));
    }
    let n_new = fresh.len();
    // All of them in one order, before anything is computed from what others may be writing.
    let had = store::hours::lock(&mut *tx, &touched).await?;
    refuse_of(&full(&had, limits), is_new.keys().copied())?;
    let n_read: i64 = changed.iter().filter_map(|hour| had.get(hour)).sum();
    if changed.len() > 1 && n_read > limits.read_again {
        return Err(Unwritten::TooMuch);
    }
    fresh.retain(|point| !changed.contains(&hour_of(point)));
    let full = add(tx, &fold(&fresh), limits).await?;
    refuse_of(&full, is_new.keys().copied())?;
    store::hours::recompute(tx, &changed).await?;
    Ok(Counts { new: n_new, changed: rows.len() - n_new, unchanged: points.len() - rows.len() })
}

fn full(had: &HashMap<Hour, i64>, limits: Limits) -> BTreeSet<Hour> {
    had.iter().filter(|(_, count)| **count >= limits.of_hour).map(|(hour, _)| *hour).collect()
}

/// Those of `written` that are of `full` hours must not be.
fn refuse_of(full: &BTreeSet<Hour>, written: impl Iterator<Item = Key>) -> Result<(), Unwritten> {
    if full.is_empty() {
        return Ok(());
    }
    Err(Unwritten::HoursFull(written.filter(|(track_id, at_us)| full.contains(&(*track_id, hour_start(*at_us)))).collect()))
}
