//! Points: timestamped positions and readings of tracks, which come in bulk.
//!
//! Accepted means: appended to one of a few Redis streams, by track. A worker moves them from there to PostgreSQL in batches, and tells those
//! who watch. A point is known by its track and time, so that whatever is done twice is done once. In reading order:
//!
//! - this file and [`view`]: a point while it is handled, and as callers see it; `time`, [`check`]: what makes one.
//! - [`forms`]: JSON, NDJSON, CSV, GPX and GeoJSON into points.
//! - `entry`: many points as one entry of a stream; [`append`]: accepting; [`depth`]: how much waits.
//! - [`import`]: the job kind that takes in the points of a file.
//! - [`process`]: from the streams to the tables, `fold` (hours), `dead` letters; [`latest`], [`live`]: what others are told.
//! - [`read`], [`stats`]: what is asked; [`upkeep`]: partitions ahead of time, retention, what deleted tracks leave; [`trim`]: too many dead letters.

pub mod append;
pub mod check;
pub mod dead;
pub mod depth;
mod entry;
pub mod forms;
pub mod import;
pub mod latest;
pub mod live;
mod local;
pub mod process;
pub mod read;
mod shard;
pub mod stats;
mod store;
#[cfg(test)]
mod tests;
mod time;
pub mod trim;
pub mod upkeep;
pub mod view;

pub use check::RawPoint;
pub use local::LocalPoints;
pub use stats::HourStats;
pub use view::PointView;

pub(crate) use stats::HourRow;
pub(crate) use view::PointRow;

use crate::ids::TrackId;
use std::borrow::Cow;

/// Most points of one request.
pub const POINTS_MAX: usize = 10_000;
/// Largest `attributes` of a point.
pub const ATTRIBUTES_BYTES: usize = 1 << 10;

/// A point that passed every check but whether its track is there. Its attributes are borrowed from the body or entry it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<'a> {
    pub track_id: TrackId,
    /// Microseconds since 1970, the resolution of PostgreSQL; years 1970 to 9999.
    pub recorded_at_us: i64,
    pub lat: f64,
    pub lon: f64,
    pub altitude_m: Option<f64>,
    pub speed_mps: Option<f64>,
    pub heading_deg: Option<f64>,
    pub accuracy_m: Option<f64>,
    /// A JSON object.
    pub attributes: Option<Cow<'a, str>>,
}

impl Point<'_> {
    /// The same with attributes of its own.
    #[must_use]
    pub fn into_owned(self) -> Point<'static> {
        Point { attributes: self.attributes.map(|attributes| Cow::Owned(attributes.into_owned())), ..self }
    }
}
