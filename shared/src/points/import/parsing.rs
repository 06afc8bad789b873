//! From a file to batches of points, on a thread that may compute and wait. It ends by itself when nobody takes its batches any more.

use super::{Format, ImportTracks, LISTED_MAX, Reject, chunks::Chunks};
use crate::{
    Code, Error, Result,
    points::{
        Point,
        append::Appending,
        forms::{self, Sink},
    },
    telemetry::metrics::INGEST_REJECTED,
};
use bytes::Bytes;
use std::cell::Cell;
use tokio::sync::mpsc;

/// Points that are appended at once: enough for what each call costs, and at a kibibyte of attributes each still little to hold.
const BATCH_POINTS: usize = 2_000;
/// A file whose first items are all refused is not what it is said to be; the rest of it is spared.
const HOPELESS: u64 = 1_000;

/// Points on their way.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) appending: Appending,
    /// How much of the file was read when it was full.
    pub(super) n_bytes: u64,
    /// Items that were refused so far.
    pub(super) n_rejected: u64,
}

/// What is known of a file that was gone through.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) n_items: u64,
    pub(super) n_rejected: u64,
    pub(super) rejects: Vec<Reject>,
}

/// Where the batches go: `empty` is one to begin with.
pub(super) struct Outlet {
    pub(super) batches: mpsc::Sender<Batch>,
    pub(super) empty: Box<dyn Fn() -> Appending + Send>,
}

/// Goes through the file. What was good before an error is sent all the same.
pub(super) fn parse(asked: ImportTracks, format: Format, chunks: mpsc::Receiver<Bytes>, outlet: Outlet) -> Result<Tally> {
    let n_bytes = Cell::new(0);
    let source = Chunks::new(chunks, &n_bytes);
    let filling = (outlet.empty)();
    let mut taker = Taker { outlet, filling, n_bytes: &n_bytes, tally: Tally::default() };
    let outcome = match format {
        Format::Csv => forms::csv::each(source, asked.track_id, &mut taker),
        Format::Ndjson => forms::lines::each(source, asked.track_id, &mut taker),
        Format::Gpx => forms::gpx::each(source, asked.track_id, &mut taker),
        Format::Geojson => forms::geojson::each(source, asked.track_id, &mut taker),
    };
    let sent = taker.send();
    outcome.and(sent)?;
    let tally = taker.tally;
    match tally.n_items {
        0 => Err(Error::new(Code::ValidationFailed, "The file holds no points.")),
        n_items if n_items == tally.n_rejected => Err(hopeless(&tally)),
        _ => Ok(tally),
    }
}

struct Taker<'a> {
    outlet: Outlet,
    filling: Appending,
    n_bytes: &'a Cell<u64>,
    tally: Tally,
}

impl Sink for Taker<'_> {
    fn take(&mut self, point: Result<Point<'_>>) -> Result<()> {
        let index = self.tally.n_items;
        self.tally.n_items += 1;
        match point {
            Ok(point) => {
                self.filling.add(&point);
                if self.filling.n_points() == BATCH_POINTS { self.send() } else { Ok(()) }
            }
            Err(error) => self.reject(index, error),
        }
    }
}

impl Taker<'_> {
    fn reject(&mut self, index: u64, error: Error) -> Result<()> {
        metrics::counter!(INGEST_REJECTED, "code" => error.code.as_str()).increment(1);
        let tally = &mut self.tally;
        tally.n_rejected += 1;
        if tally.rejects.len() < LISTED_MAX {
            tally.rejects.push(Reject::new(index, error));
        }
        if tally.n_rejected == HOPELESS && tally.n_items == HOPELESS { Err(hopeless(tally)) } else { Ok(()) }
    }

    fn send(&mut self) -> Result<()> {
        let appending = std::mem::replace(&mut self.filling, (self.outlet.empty)());
        let batch = Batch { appending, n_bytes: self.n_bytes.get(), n_rejected: self.tally.n_rejected };
        // Nobody hears of this error: whoever took the batches has one of their own, or was told to stop.
        self.outlet.batches.blocking_send(batch).map_err(|_| Error::new(Code::Draining, "The import was ended."))
    }
}

/// Of items none of which was accepted.
fn hopeless(tally: &Tally) -> Error {
    let first = tally.rejects.first();
    let why = first.map(|reject| match reject.errors.first() {
        Some(field) => format!("{} `{}` {}", reject.detail, field.pointer, field.detail),
        None => reject.detail.clone(),
    });
    let detail = format!("None of the first {} items is a point. The first: {}", tally.n_items, why.unwrap_or_default());
    Error::new(Code::ValidationFailed, detail)
}
