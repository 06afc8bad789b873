//! The forms that points are sent in. Each is gone through point by point, and each point is judged on its own: what is told of it, a
//! point or what is wrong with it, goes to a [`Sink`] in the order of the body. An error of the form itself ends the reading.
//!
//! However much there is to read, little of it is held: a form that must read something whole (a record, an element, a feature) has a limit
//! for it, which `meter` keeps.
//!
//! Each may begin with the mark of UTF-8, which table programs and editors put there.

pub mod csv;
pub mod geojson;
pub mod gpx;
pub mod json;
pub mod lines;
mod meter;
mod quotes;

use super::Point;
use crate::{Error, Result};
use std::io::{self, Read};

/// Takes points as they are read; an error of its own ends the reading.
pub trait Sink {
    fn take(&mut self, point: Result<Point<'_>>) -> Result<()>;
}

impl<F: FnMut(Result<Point<'_>>) -> Result<()>> Sink for F {
    fn take(&mut self, point: Result<Point<'_>>) -> Result<()> {
        self(point)
    }
}

/// U+FEFF in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// `text` without the mark that it may begin with.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// The same of what is read.
fn read_without_mark(mut source: impl Read) -> io::Result<impl Read> {
    let mut head = Vec::with_capacity(MARK.len());
    source.by_ref().take(MARK.len() as u64).read_to_end(&mut head)?;
    if head == MARK {
        head.clear();
    }
    Ok(io::Cursor::new(head).chain(source))
}

/// A field that is not of its type, as the forms that have no types find it.
fn invalid(name: &str, code: &str, detail: &str) -> Error {
    Error::invalid(format!("/{name}"), code, detail)
}
