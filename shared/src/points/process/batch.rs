//! Entries into points: in the order of track and time, each with who sent it, and sorted out by whose tracks they are.

use super::consumer::Taken;
use crate::{
    ids::{TrackId, UserId},
    points::{
        Point, PointView,
        dead::DeadPoint,
        entry::{Entry, Sender},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::collections::HashMap;
use uuid::Uuid;

/// Whom an entry is noted under that cannot be read: nobody.
const NOBODY: Sender = Sender { user_id: UserId(Uuid::nil()), for_all: false, received_at_ms: 0 };

/// A point with where it came from.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub(super) point: Point<'a>,
    sender: Sender,
    /// What it would be known by as a dead letter.
    dead_id: Uuid,
}

impl Incoming<'_> {
    pub(super) fn dead(&self, code: &'static str, detail: impl Into<String>) -> DeadPoint {
        DeadPoint {
            id: self.dead_id,
            track_id: Some(self.point.track_id),
            json: serde_json::to_string(&PointView::from(&self.point)).expect("a point is plain data"),
            code,
            detail: detail.into(),
            sender: self.sender,
        }
    }
}

/// What a few entries hold.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    /// By track and time; of the same both, the one that came last is last.
    points: Vec<Incoming<'a>>,
    unreadable: Vec<DeadPoint>,
    /// When the oldest entry was accepted.
    pub(super) received_at_ms: Option<i64>,
}

/// The points of a batch that are to be stored, one for each track and time, and those that cannot be.
#[derive(Debug)]
pub(super) struct SortedOut<'b, 'a> {
    pub(super) good: Vec<&'b Incoming<'a>>,
    pub(super) dead: Vec<DeadPoint>,
    /// Points that another one of the batch took the place of.
    pub(super) n_repeated: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn read(taken: &'a [Taken]) -> Self {
        let mut batch = Self { points: Vec::new(), unreadable: Vec::new(), received_at_ms: None };
        for Taken { id, bytes } in taken.iter().filter(|taken| !taken.bytes.is_empty()) {
            let Some(entry) = Entry::read(bytes) else {
                tracing::error!(entry = id, "an entry of a stream of points cannot be read");
                batch.unreadable.push(unreadable(id, bytes));
                continue;
            };
            let received_at_ms = entry.sender.received_at_ms;
            batch.received_at_ms = Some(batch.received_at_ms.map_or(received_at_ms, |oldest| oldest.min(received_at_ms)));
            batch.add(entry);
        }
        batch.points.sort_by_key(|incoming| (incoming.point.track_id, incoming.point.recorded_at_us));
        batch
    }

    fn add(&mut self, mut entry: Entry<'a>) {
        let points = std::mem::take(&mut entry.points);
        let incoming = points.into_iter().enumerate();
        self.points.extend(incoming.map(|(index, point)| Incoming { point, sender: entry.sender, dead_id: entry.dead_id(index) }));
    }

    /// Each track once.
    pub(super) fn track_ids(&self) -> impl Iterator<Item = TrackId> {
        self.points.chunk_by(|one, next| one.point.track_id == next.point.track_id).map(|of_track| of_track[0].point.track_id)
    }

    /// A foreign point must not take the place of an owner's: whose they are comes before which is the last.
    pub(super) fn sort_out<'b>(&'b self, owners: &HashMap<TrackId, UserId>) -> SortedOut<'b, 'a> {
        let mut sorted_out = SortedOut { good: Vec::with_capacity(self.points.len()), dead: Vec::new(), n_repeated: 0 };
        sorted_out.dead.extend(self.unreadable.iter().cloned());
        let same = |one: &Incoming<'_>, next: &Incoming<'_>| {
            one.point.track_id == next.point.track_id && one.point.recorded_at_us == next.point.recorded_at_us
        };
        for of_track in self.points.chunk_by(|one, next| one.point.track_id == next.point.track_id) {
            let owner = owners.get(&of_track[0].point.track_id);
            for incoming in of_track {
                let sender = incoming.sender;
                if owner.is_none_or(|owner| *owner != sender.user_id && !sender.for_all) {
                    sorted_out.dead.push(incoming.dead("unknown_track", "There is no such track, or it is not the submitter's."));
                    continue;
                }
                match sorted_out.good.last_mut().filter(|last| same(last, incoming)) {
                    Some(last) => {
                        *last = incoming;
                        sorted_out.n_repeated += 1;
                    }
                    None => sorted_out.good.push(incoming),
                }
            }
        }
        sorted_out
    }
}

/// Kept as it is, for whoever finds out what it was. The stream's own id makes the same of it every time.
fn unreadable(id: &str, bytes: &[u8]) -> DeadPoint {
    DeadPoint {
        id: Uuid::from_u128(
            id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u128, byte| (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_01b3)),
        ),
        track_id: None,
        json: serde_json::json!({ "entry": id, "raw": STANDARD.encode(bytes) }).to_string(),
        code: "unreadable",
        detail: "The entry of the stream cannot be read.".to_owned(),
        sender: NOBODY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::entry::EntryWriter;

    fn taken(user: u128, for_all: bool, points: &[(u128, i64, f64)]) -> Taken {
        let mut writer = EntryWriter::new(Sender { user_id: UserId(Uuid::from_u128(user)), for_all, received_at_ms: 1 });
        for (track, recorded_at_us, lat) in points {
            let track_id = TrackId(Uuid::from_u128(*track));
            let none = (None, None, None, None);
            let (altitude_m, speed_mps, heading_deg, accuracy_m) = none;
            let recorded_at_us = *recorded_at_us;
            writer.add(&Point {
                track_id,
                recorded_at_us,
                lat: *lat,
                lon: 0.0,
                altitude_m,
                speed_mps,
                heading_deg,
                accuracy_m,
                attributes: None,
            });
        }
        Taken { id: "1-1".to_owned(), bytes: writer.sealed().0.to_vec() }
    }

    #[test]
    fn the_last_of_an_instant_stays_and_foreign_ones_are_dead() {
        let entries = [
            taken(1, false, &[(7, 20, 1.0), (7, 10, 2.0), (8, 10, 3.0)]),
            taken(2, false, &[(7, 10, 4.0)]),
            taken(1, false, &[(7, 10, 5.0)]),
            taken(9, true, &[(7, 30, 6.0)]),
            Taken { id: "1-5".to_owned(), bytes: vec![1, 2, 3] },
            Taken { id: "1-6".to_owned(), bytes: Vec::new() },
        ];
        let batch = Batch::read(&entries);
        let owners = HashMap::from([(TrackId(Uuid::from_u128(7)), UserId(Uuid::from_u128(1)))]);
        let sorted_out = batch.sort_out(&owners);
        assert_eq!(sorted_out.good.iter().map(|incoming| incoming.point.lat).collect::<Vec<_>>(), [5.0, 1.0, 6.0]);
        assert_eq!(sorted_out.dead.iter().map(|dead| dead.code).collect::<Vec<_>>(), ["unreadable", "unknown_track", "unknown_track"]);
        assert_eq!(sorted_out.n_repeated, 1);
    }
}
