//! How much a reader gave since something was last read whole. What keeps what it reads until that is whole is kept small by this.

use std::{
    cell::Cell,
    io::{self, BufRead, Read},
};

#[derive(Debug)]
pub(super) struct Meter {
    n_bytes: Cell<usize>,
    most: usize,
}

/// A source that gives an error once more than its meter allows was read.
#[derive(Debug)]
pub(super) struct Metered<'a, R> {
    source: R,
    meter: &'a Meter,
}

impl Meter {
    pub(super) fn new(most: usize) -> Self {
        Self { n_bytes: Cell::new(0), most }
    }

    /// Something was read whole.
    pub(super) fn reset(&self) {
        self.n_bytes.set(0);
    }

    /// What a reading fails for, if it fails for this.
    pub(super) fn why(&self) -> Option<String> {
        (self.n_bytes.get() > self.most).then(|| format!("something in it is longer than {} KiB", self.most >> 10))
    }

    fn count(&self, n_bytes: usize) {
        self.n_bytes.set(self.n_bytes.get().saturating_add(n_bytes));
    }

    fn check(&self) -> io::Result<()> {
        self.why().map_or(Ok(()), |why| Err(io::Error::other(why)))
    }
}

impl<'a, R> Metered<'a, R> {
    pub(super) fn new(source: R, meter: &'a Meter) -> Self {
        Self { source, meter }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.meter.check()?;
        let n_bytes = self.source.read(buffer)?;
        self.meter.count(n_bytes);
        Ok(n_bytes)
    }
}

impl<R: BufRead> BufRead for Metered<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.meter.check()?;
        self.source.fill_buf()
    }

    fn consume(&mut self, n_bytes: usize) {
        self.meter.count(n_bytes);
        self.source.consume(n_bytes);
    }
}
