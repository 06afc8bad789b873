//! Spans that are over and wait to be sent: a bounded list. What does not fit is dropped, and nobody waits.

use crate::telemetry::metrics::TRACES_SPANS;
use serde_json::value::RawValue;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What a busy process makes in the time that a collector may be slow for: usually a few megabytes.
const SPANS_MAX: usize = 8_192;
/// And never more than so many bytes.
const BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct Basket(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    spans: VecDeque<Box<RawValue>>,
    n_bytes: usize,
}

impl Basket {
    pub(super) fn put(&self, spans: impl IntoIterator<Item = Box<RawValue>>) {
        let mut kept = self.lock();
        let mut n_dropped = 0;
        for span in spans {
            let n_bytes = kept.n_bytes + span.get().len();
            if kept.spans.len() < SPANS_MAX && n_bytes <= BYTES_MAX {
                kept.spans.push_back(span);
                kept.n_bytes = n_bytes;
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
        let n = n.min(kept.spans.len());
        let taken: Vec<_> = kept.spans.drain(..n).collect();
        kept.n_bytes -= taken.iter().map(|span| span.get().len()).sum::<usize>();
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
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

    #[test]
    fn it_holds_so_many_bytes() {
        let basket = Basket::default();
        let span = || serde_json::value::to_raw_value(&"x".repeat((1 << 20) - 2)).unwrap();
        for _ in 0..2 {
            basket.put((0..20).map(|_| span()));
            assert_eq!(basket.take(usize::MAX).len(), BYTES_MAX >> 20);
        }
    }
}
