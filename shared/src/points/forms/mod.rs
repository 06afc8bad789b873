//! The forms that points are sent in. Each is gone through point by point, and each point is judged on its own: what is told of it, a
//! point or what is wrong with it, goes to a [`Sink`] in the order of the body. An error of the form itself ends the reading.

pub mod csv;
pub mod gpx;
pub mod json;

use super::Point;
use crate::Result;

/// Takes points as they are read; an error of its own ends the reading.
pub trait Sink {
    fn take(&mut self, point: Result<Point<'_>>) -> Result<()>;
}

impl<F: FnMut(Result<Point<'_>>) -> Result<()>> Sink for F {
    fn take(&mut self, point: Result<Point<'_>>) -> Result<()> {
        self(point)
    }
}
