//! An entry of a stream: up to a thousand points of one request, in a compact form. All numbers are little-endian.
//!
//! ```text
//! version u8 = 1 · flags u8 (1: may write to all tracks) · number of points u16 · submitter [16] · received_at i64 ms · entry id [16]
//! then of each point: track [16] · recorded_at i64 µs · lat f64 · lon f64 · mask u8 · each f64 that the mask names · attributes u16 + bytes
//! ```
//! The form must stay readable for the release after: another one takes another version.

use super::{ATTRIBUTES_BYTES, Point};
use crate::ids::{TrackId, UserId};
use std::{borrow::Cow, ops::RangeInclusive};
use uuid::Uuid;

const VERSION: u8 = 1;
const FOR_ALL: u8 = 1;
const HEAD_BYTES: usize = 1 + 1 + 2 + 16 + 8 + 16;
/// Where the number of points stands.
const COUNT_AT: RangeInclusive<usize> = 2..=3;
/// Of the mask: four numbers, then the attributes.
const ATTRIBUTES: u8 = 16;

/// Points of one entry.
pub(super) const POINTS_MAX: u16 = 1_000;
/// An entry is closed when it passes this: attributes may make it long before it has its thousand points.
const BYTES_MAX: usize = 256 << 10;

/// Who sent points, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) user_id: UserId,
    /// Whether they may write to everybody's tracks.
    pub(super) for_all: bool,
    pub(super) received_at_ms: i64,
}

/// An entry being written.
#[derive(Debug)]
pub(super) struct EntryWriter {
    bytes: Vec<u8>,
    n_points: u16,
}

impl EntryWriter {
    pub(super) fn new(sender: Sender) -> Self {
        let mut bytes = Vec::with_capacity(1 << 10);
        bytes.extend([VERSION, if sender.for_all { FOR_ALL } else { 0 }, 0, 0]);
        bytes.extend(sender.user_id.0.as_bytes());
        bytes.extend(sender.received_at_ms.to_le_bytes());
        bytes.extend(Uuid::now_v7().as_bytes());
        Self { bytes, n_points: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.n_points >= POINTS_MAX || self.bytes.len() >= BYTES_MAX
    }

    pub(super) fn add(&mut self, point: &Point<'_>) {
        self.n_points += 1;
        let bytes = &mut self.bytes;
        bytes.extend(point.track_id.0.as_bytes());
        bytes.extend(point.recorded_at_us.to_le_bytes());
        bytes.extend(point.lat.to_le_bytes());
        bytes.extend(point.lon.to_le_bytes());
        let numbers = [point.altitude_m, point.speed_mps, point.heading_deg, point.accuracy_m];
        let mask_at = bytes.len();
        bytes.push(0);
        let mut mask = 0;
        for (bit, number) in numbers.into_iter().enumerate() {
            if let Some(number) = number {
                mask |= 1 << bit;
                bytes.extend(number.to_le_bytes());
            }
        }
        if let Some(attributes) = &point.attributes {
            mask |= ATTRIBUTES;
            bytes.extend(u16::try_from(attributes.len()).expect("attributes are checked to be a kibibyte at most").to_le_bytes());
            bytes.extend(attributes.as_bytes());
        }
        bytes[mask_at] = mask;
    }

    /// The entry as it is now, and the number of its points.
    pub(super) fn sealed(&mut self) -> (&[u8], u16) {
        self.bytes[COUNT_AT].copy_from_slice(&self.n_points.to_le_bytes());
        (&self.bytes, self.n_points)
    }
}

/// An entry as it is read.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) sender: Sender,
    id: u128,
    pub(super) points: Vec<Point<'a>>,
}

impl<'a> Entry<'a> {
    /// `None` when it is none of ours, or not whole.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let [version, flags] = rest.take()?;
        let n_points = u16::from_le_bytes(rest.take()?);
        let user_id = UserId(Uuid::from_bytes(rest.take()?));
        let received_at_ms = i64::from_le_bytes(rest.take()?);
        let id = u128::from_be_bytes(rest.take()?);
        if version != VERSION || usize::from(n_points) > bytes.len() {
            return None;
        }
        let points = (0..n_points).map(|_| rest.point()).collect::<Option<Vec<_>>>()?;
        let sender = Sender { user_id, for_all: flags & FOR_ALL != 0, received_at_ms };
        rest.0.is_empty().then_some(Self { sender, id, points })
    }

    /// How many points an entry says it has, whether it can be read or not.
    pub(super) fn n_points(bytes: &[u8]) -> u16 {
        if bytes.len() < HEAD_BYTES {
            return 0;
        }
        let mut count = [0; 2];
        count.copy_from_slice(&bytes[COUNT_AT]);
        u16::from_le_bytes(count)
    }

    /// The id of one of its points as a dead letter: the same however often the entry is worked on.
    pub(super) fn dead_id(&self, index: usize) -> Uuid {
        Uuid::from_u128(self.id & !0xFFFF | index as u128 & 0xFFFF)
    }
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }

    fn point(&mut self) -> Option<Point<'a>> {
        let track_id = TrackId(Uuid::from_bytes(self.take()?));
        let recorded_at_us = i64::from_le_bytes(self.take()?);
        let (lat, lon) = (self.number()?, self.number()?);
        let [mask] = self.take()?;
        let mut optional = |bit: u8| if mask & 1 << bit == 0 { Some(None) } else { self.number().map(Some) };
        let (altitude_m, speed_mps, heading_deg, accuracy_m) = (optional(0)?, optional(1)?, optional(2)?, optional(3)?);
        let attributes = if mask & ATTRIBUTES == 0 { None } else { Some(Cow::Borrowed(self.text()?)) };
        Some(Point { track_id, recorded_at_us, lat, lon, altitude_m, speed_mps, heading_deg, accuracy_m, attributes })
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        if length > ATTRIBUTES_BYTES {
            return None;
        }
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sender() -> Sender {
        Sender { user_id: UserId(Uuid::from_u128(3)), for_all: true, received_at_ms: 1_700_000_000_000 }
    }

    fn written(points: &[Point<'_>]) -> Vec<u8> {
        let mut writer = EntryWriter::new(sender());
        points.iter().for_each(|point| writer.add(point));
        writer.sealed().0.to_vec()
    }

    prop_compose! {
        fn any_point()(track in any::<u128>(), at in 0..4_000_000_000_000_000_i64, lat in -90.0..90.0, lon in -180.0..180.0,
                numbers in prop::array::uniform4(prop::option::of(0.0..100.0)), text in prop::option::of("[a-zä]{0,20}")) -> Point<'static> {
            let [altitude_m, speed_mps, heading_deg, accuracy_m] = numbers;
            let attributes = text.map(|text| Cow::Owned(format!("{{\"a\":\"{text}\"}}")));
            Point { track_id: TrackId(Uuid::from_u128(track)), recorded_at_us: at, lat, lon, altitude_m, speed_mps, heading_deg, accuracy_m, attributes }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(points in prop::collection::vec(any_point(), 0..20)) {
            let bytes = written(&points);
            let entry = Entry::read(&bytes).unwrap();
            prop_assert_eq!(entry.sender, sender());
            prop_assert_eq!(usize::from(Entry::n_points(&bytes)), points.len());
            prop_assert_eq!(&entry.points, &points);
        }

        #[test]
        fn what_is_cut_or_changed_is_never_read_past_its_end(points in prop::collection::vec(any_point(), 1..4), cut in 0_usize..400, byte in any::<u8>()) {
            let mut bytes = written(&points);
            let at = cut % bytes.len();
            prop_assert!(Entry::read(&bytes[..at]).is_none());
            bytes[at] = byte;
            drop(Entry::read(&bytes));
        }
    }

    #[test]
    fn dead_letters_of_an_entry_have_ids_of_their_own_that_stay() {
        let bytes = written(&[]);
        let (first, again) = (Entry::read(&bytes).unwrap(), Entry::read(&bytes).unwrap());
        assert_eq!(first.dead_id(3), again.dead_id(3));
        assert_ne!(first.dead_id(3), first.dead_id(4));
        let other = written(&[]);
        assert_ne!(first.dead_id(3), Entry::read(&other).unwrap().dead_id(3));
    }
}
