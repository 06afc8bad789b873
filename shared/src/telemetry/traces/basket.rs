//! Spans that are over and wait to be sent: a bounded list. What does not fit is dropped, and nobody waits.

use crate::telemetry::metrics::TRACES_SPANS;
use serde_json::value::RawValue;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A few megabytes at most: what a busy process makes in the time that a collector may be slow for.
const SPANS_MAX: usize = 8_192;

#[derive(Debug, Default)]
pub(super) struct Basket(Mutex<VecDeque<Box<RawValue>>>);

impl Basket {
    pub(super) fn put(&self, spans: impl IntoIterator<Item = Box<RawValue>>) {
        let mut kept = self.lock();
        let mut n_dropped = 0;
        for span in spans {
            if kept.len() < SPANS_MAX {
                kept.push_back(span);
            } else {
                n_dropped += 1;
            }
        }
        drop(kept);
        if n_dropped > 0 {
            metrics::counter!(TRACES_SPANS, "outcome" => "dropped").increment(n_dropped);
        }
    }

    /// The oldest, `n` at most.
    pub(super) fn take(&self, n: usize) -> Vec<Box<RawValue>> {
        let mut kept = self.lock();
        let n = n.min(kept.len());
        kept.drain(..n).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Box<RawValue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_so_many_and_gives_the_oldest_first() {
        let basket = Basket::default();
        let span = |n: usize| serde_json::value::to_raw_value(&n).unwrap();
        basket.put((0..SPANS_MAX + 10).map(span));
        assert_eq!(basket.take(2).iter().map(|span| span.get()).collect::<Vec<_>>(), ["0", "1"]);
        assert_eq!(basket.take(usize::MAX).len(), SPANS_MAX - 2);
        assert!(basket.take(1).is_empty());
    }
}
