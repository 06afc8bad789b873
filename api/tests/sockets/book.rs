//! What one subscriber heard, and how it was told of what it did not.

use std::{collections::HashMap, time::Instant};

#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Publications without a gap; between two stretches one was announced.
    pub(crate) stretches: Vec<Stretch>,
    /// Codes that connections were closed with; 0 for one that ended without.
    pub(crate) closes: Vec<u16>,
    /// When each of them came.
    pub(crate) closed_at: Vec<Instant>,
    /// Codes that the subscription was ended with.
    pub(crate) unsubscribes: Vec<u16>,
    pub(crate) n_recovered: usize,
}

#[derive(Debug)]
pub(crate) struct Stretch {
    epoch: String,
    /// The offset before the first.
    after: u64,
    pub(crate) data: Vec<u32>,
}

impl Book {
    /// Where the subscriber stands.
    pub(super) fn position(&self) -> Option<(&str, u64)> {
        let last = self.stretches.last()?;
        Some((&last.epoch, last.after + last.data.len() as u64))
    }

    /// The subscriber was told to begin from here.
    pub(super) fn begin(&mut self, epoch: &str, after: u64) {
        self.stretches.push(Stretch { epoch: epoch.to_owned(), after, data: Vec::new() });
    }

    pub(super) fn take(&mut self, offset: u64, data: u32) {
        let stretch = self.stretches.last_mut().expect("publications come after the answer to the subscribe");
        assert_eq!(offset, stretch.after + stretch.data.len() as u64 + 1, "every offset comes once and in order, or a gap is announced");
        stretch.data.push(data);
    }
}

/// Whoever heard an offset of an epoch heard the same there.
pub(crate) fn assert_agreement<'a>(books: impl IntoIterator<Item = &'a Book>) {
    let mut known: HashMap<(&str, u64), u32> = HashMap::new();
    for stretch in books.into_iter().flat_map(|book| &book.stretches) {
        for (data, offset) in stretch.data.iter().zip(stretch.after + 1..) {
            let first = *known.entry((&stretch.epoch, offset)).or_insert(*data);
            assert_eq!(first, *data, "offset {offset} of {}", stretch.epoch);
        }
    }
}
