//! The forms that points are sent in. Each is gone through point by point, and each point is judged on its own: what is told of it, a
//! point or what is wrong with it, goes to a [`Sink`] in the order of the body. An error of the form itself ends the reading.
//!
//! However much there is to read, little of it is held: a form that must read something whole (a record, an element, a feature) has a limit
//! for it, which `meter` keeps.

pub mod csv;
pub mod geojson;
pub mod gpx;
pub mod json;
pub mod lines;
mod meter;

use super::Point;
use crate::{Error, Result};

/// Takes points as they are read; an error of its own ends the reading.
pub trait Sink {
    fn take(&mut self, point: Result<Point<'_>>) -> Result<()>;
}

impl<F: FnMut(Result<Point<'_>>) -> Result<()>> Sink for F {
    fn take(&mut self, point: Result<Point<'_>>) -> Result<()> {
        self(point)
    }
}

/// A field that is not of its type, as the forms that have no types find it.
fn invalid(name: &str, code: &str, detail: &str) -> Error {
    Error::invalid(format!("/{name}"), code, detail)
}
