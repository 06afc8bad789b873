//! A file as a thread reads it that may wait: its chunks come over a bounded channel from a task that fetches them.

use bytes::{Buf, Bytes};
use std::{
    cell::Cell,
    io::{self, BufRead, Read},
};
use tokio::sync::mpsc;

/// Ends when the sender is gone.
#[derive(Debug)]
pub(super) struct Chunks<'a> {
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
    /// How much was read so far.
    n_bytes: &'a Cell<u64>,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(chunks: mpsc::Receiver<Bytes>, n_bytes: &'a Cell<u64>) -> Self {
        Self { chunks, rest: Bytes::new(), n_bytes }
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n_bytes = self.fill_buf()?.read(buffer)?;
        self.consume(n_bytes);
        Ok(n_bytes)
    }
}

impl BufRead for Chunks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => break,
            }
        }
        Ok(&self.rest)
    }

    fn consume(&mut self, n_bytes: usize) {
        self.rest.advance(n_bytes);
        self.n_bytes.set(self.n_bytes.get() + n_bytes as u64);
    }
}
