//! Whether a quote is open where a CSV ends, and in which line: its reader does not tell. Quotes are told as that one does, RFC 4180 with any
//! kind of line end.

use std::{
    cell::Cell,
    io::{self, Read},
};

/// What is known so far; shared with who reads.
#[derive(Debug, Default)]
pub(super) struct Quotes {
    at: Cell<At>,
    n_lines: Cell<u64>,
    is_over: Cell<bool>,
}

/// Where in a record the last byte was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// A field may begin here, with a quote or without.
    #[default]
    Begin,
    Plain,
    /// Within quotes, that were opened so many lines behind the first.
    Quoted(u64),
    /// At a quote within such: it closes them, unless another follows.
    Closing(u64),
}

/// A source whose quotes are looked at while it is read.
#[derive(Debug)]
pub(super) struct Quoted<'a, R> {
    source: R,
    quotes: &'a Quotes,
}

impl Quotes {
    /// The line of a quote that is open, now that there is no more to read.
    pub(super) fn left_open(&self) -> Option<u64> {
        match self.at.get() {
            At::Quoted(line) if self.is_over.get() => Some(line + 1),
            At::Begin | At::Plain | At::Quoted(_) | At::Closing(_) => None,
        }
    }

    fn look(&self, bytes: &[u8]) {
        let (mut at, mut n_lines) = (self.at.get(), self.n_lines.get());
        for byte in bytes {
            n_lines += u64::from(*byte == b'\n');
            at = match (at, byte) {
                (At::Begin, b'"') => At::Quoted(n_lines),
                (At::Quoted(line), b'"') => At::Closing(line),
                (At::Quoted(line), _) | (At::Closing(line), b'"') => At::Quoted(line),
                (At::Begin | At::Plain | At::Closing(_), b',' | b'\n' | b'\r') => At::Begin,
                (At::Begin | At::Plain | At::Closing(_), _) => At::Plain,
            };
        }
        self.at.set(at);
        self.n_lines.set(n_lines);
    }
}

impl<'a, R> Quoted<'a, R> {
    pub(super) fn new(source: R, quotes: &'a Quotes) -> Self {
        Self { source, quotes }
    }
}

impl<R: Read> Read for Quoted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n_bytes = self.source.read(buffer)?;
        self.quotes.look(&buffer[..n_bytes]);
        self.quotes.is_over.set(n_bytes == 0);
        Ok(n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert_eq, proptest};

    proptest! {
        /// What is left open swallows what is put behind it; nothing else does.
        #[test]
        fn quotes_are_told_as_the_reader_tells_them(csv in "[a\",\n\r]{0,12}") {
            let quotes = Quotes::default();
            io::copy(&mut Quoted::new(csv.as_bytes(), &quotes), &mut io::sink()).unwrap();
            let with_more = format!("{csv}\nmore");
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(with_more.as_bytes());
            let last = reader.records().last().unwrap().unwrap();
            prop_assert_eq!(quotes.left_open().is_some(), last != ["more"][..], "{:?}", csv);
        }
    }
}
