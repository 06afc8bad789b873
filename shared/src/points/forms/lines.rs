//! Points in NDJSON: an object per line. Empty lines are no points.

use super::{Sink, json, without_mark};
use crate::{Code, Error, Result, ids::TrackId};
use std::io::BufRead;

/// Longest line that is looked at where lines come from a reader: a point with all its fields takes a fraction of it.
const LINE_MAX: usize = 64 << 10;

/// Each line of `block`, which holds whole ones.
pub fn each_of(block: &[u8], of_track: Option<TrackId>, sink: &mut impl Sink) -> Result<()> {
    let mut rest = block;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        // Of files that were put together each may have begun with it.
        let line = without_mark(&rest[..end]).trim_ascii();
        rest = &rest[(end + 1).min(rest.len())..];
        if !line.is_empty() {
            sink.take(json::point(line, of_track))?;
        }
    }
    Ok(())
}

/// Each line of `source`, of which no more than a line is kept; one that is longer than a point can be is refused by itself.
pub fn each(mut source: impl BufRead, of_track: Option<TrackId>, sink: &mut impl Sink) -> Result<()> {
    let mut begun = Begun::default();
    loop {
        let block = source.fill_buf().map_err(Error::internal)?;
        let n_bytes = block.len();
        if n_bytes == 0 {
            return begun.end(of_track, sink);
        }
        let rest = begun.go_on(block, of_track, sink)?;
        let end = memchr::memrchr(b'\n', rest).map_or(0, |end| end + 1);
        each_of(&rest[..end], of_track, sink)?;
        begun.keep(&rest[end..]);
        source.consume(n_bytes);
    }
}

/// A line whose end has not been read.
#[derive(Default)]
struct Begun {
    line: Vec<u8>,
    /// Its rest is passed over.
    is_too_long: bool,
}

impl Begun {
    /// Takes the rest of the line from `block`, and gives back what is behind it.
    fn go_on<'b>(&mut self, block: &'b [u8], of_track: Option<TrackId>, sink: &mut impl Sink) -> Result<&'b [u8]> {
        if self.line.is_empty() && !self.is_too_long {
            return Ok(block);
        }
        let end = memchr::memchr(b'\n', block);
        self.keep(&block[..end.unwrap_or(block.len())]);
        match end {
            None => Ok(&[]),
            Some(end) => {
                self.end(of_track, sink)?;
                Ok(&block[end + 1..])
            }
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.line.len() + piece.len() > LINE_MAX {
            self.is_too_long = true;
        }
        if self.is_too_long {
            self.line.clear();
        } else {
            self.line.extend_from_slice(piece);
        }
    }

    fn end(&mut self, of_track: Option<TrackId>, sink: &mut impl Sink) -> Result<()> {
        let outcome = match std::mem::take(&mut self.is_too_long) {
            true => sink.take(Err(Error::new(Code::InvalidJson, format!("The line is longer than {} KiB.", LINE_MAX >> 10)))),
            false => each_of(&self.line, of_track, sink),
        };
        self.line.clear();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::Point;
    use proptest::{prop_assert_eq, proptest};
    use std::io::BufReader;

    const TRACK: TrackId = TrackId(uuid::Uuid::from_u128(7));

    /// `lat` of each point, or the code of what is wrong with it.
    fn told(read: impl FnOnce(&mut dyn FnMut(Result<Point<'_>>) -> Result<()>) -> Result<()>) -> Vec<String> {
        let mut found = Vec::new();
        let mut sink = |point: Result<Point<'_>>| {
            found.push(point.map_or_else(|error| error.code.to_string(), |point| point.lat.to_string()));
            Ok(())
        };
        read(&mut sink).unwrap();
        found
    }

    fn line(lat: usize) -> String {
        format!(r#"{{"recorded_at":"2026-11-21T10:00:00Z","lat":{lat},"lon":1}}"#)
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_come(capacity in 1_usize..200, broken in 0_usize..6, ends_in_newline: bool) {
            let mut text = (0..6).map(|n| if n == broken { "{\"lat\":\r".to_owned() } else { line(n) }).collect::<Vec<_>>().join("\n\n");
            if ends_in_newline {
                text.push('\n');
            }
            let at_once = told(|mut sink| each_of(text.as_bytes(), Some(TRACK), &mut sink));
            let piecewise = told(|mut sink| each(BufReader::with_capacity(capacity, text.as_bytes()), Some(TRACK), &mut sink));
            prop_assert_eq!(&at_once, &piecewise);
            prop_assert_eq!(at_once.len(), 6);
        }
    }

    #[test]
    fn a_mark_before_a_line_is_no_part_of_it() {
        let text = format!("\u{feff}{}\n\u{feff}{}\n\u{feff}\n", line(1), line(2));
        assert_eq!(told(|mut sink| each_of(text.as_bytes(), Some(TRACK), &mut sink)), ["1", "2"]);
        assert_eq!(told(|mut sink| each(BufReader::with_capacity(1, text.as_bytes()), Some(TRACK), &mut sink)), ["1", "2"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_by_itself_and_never_kept() {
        for ending in ["", "\n", &format!("\n{}", line(3))] {
            let text = format!("{}\n{}{ending}", line(1), "x".repeat(3 * LINE_MAX));
            let mut expected = vec!["1", "invalid_json"];
            expected.extend((ending.len() > 1).then_some("3"));
            let told = told(|mut sink| each(BufReader::with_capacity(1_000, text.as_bytes()), Some(TRACK), &mut sink));
            assert_eq!(told, expected);
        }
        let mut begun = Begun::default();
        for _ in 0..1_000 {
            begun.keep(&[b'x'; 1_000]);
        }
        assert!(begun.line.capacity() <= 2 * LINE_MAX);
    }
}
