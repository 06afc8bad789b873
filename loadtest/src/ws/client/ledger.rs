//! The ledger of one subscriber: every offset of its channel once and in order, or a gap that the server told of.

use serde::{Deserialize, Serialize};

/// Gaps that are kept apart, so that what comes late can be told from what comes twice; more are joined into their neighbour.
const MAX_GAPS: usize = 64;

/// One subscriber's account. It outlives its connections.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Which of the run's epochs `last` belongs to; None before the first subscription.
    epoch: Option<u16>,
    /// Where the present epoch began for it.
    base: u64,
    last: u64,
    totals: Totals,
    /// Offsets below `last` that have not come, oldest first, both ends included.
    gaps: Vec<(u64, u64)>,
}

/// Sums over subscribers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Publications that came, by push or by recovery.
    pub received: u64,
    /// Of these, by recovery.
    pub recovered: u64,
    /// Offsets that never came, of which the server said nothing.
    pub lost: u64,
    /// Offsets that came more than once.
    pub duplicates: u64,
    /// Offsets that came after a higher one.
    pub out_of_order: u64,
    /// Gaps that the server announced: recovered=false.
    pub announced_gaps: u64,
    /// Offsets in those of them that stayed within one epoch.
    pub announced_missing: u64,
    /// Subscriptions that the server said it could not continue (2500 or 3010).
    pub insufficient_state: u64,
    /// Subscriptions continued after a break, with everything recovered.
    pub recoveries: u64,
}

/// How a publication reached the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Push,
    Recovery,
}

impl Ledger {
    /// Where a new connection goes on; None on the first one.
    pub(super) fn position(&self) -> Option<(u64, u16)> {
        self.epoch.map(|epoch| (self.last, epoch))
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// The subscription begins: everything after `offset` is due.
    pub(super) fn begin(&mut self, offset: u64, epoch: u16) {
        self.epoch = Some(epoch);
        self.base = offset;
        self.last = offset;
    }

    /// The server has said that it cannot continue from the position, and where it goes on.
    pub(super) fn announce_gap(&mut self, offset: u64, epoch: u16) {
        self.totals.announced_gaps += 1;
        match self.epoch {
            Some(before) if before == epoch && offset >= self.last => self.totals.announced_missing += offset - self.last,
            Some(_) | None => {
                // Offsets begin anew: what was missing before stays missing.
                self.totals.lost += missing(&self.gaps);
                self.gaps.clear();
            }
        }
        self.begin(offset, epoch);
    }

    pub(super) fn note_insufficient_state(&mut self) {
        self.totals.insufficient_state += 1;
    }

    pub(super) fn note_recovery(&mut self) {
        self.totals.recoveries += 1;
    }

    pub(super) fn take(&mut self, offset: u64, way: Way) {
        self.totals.received += 1;
        self.totals.recovered += u64::from(way == Way::Recovery);
        if offset == self.last + 1 {
            self.last = offset;
        } else if offset > self.last {
            self.open_gap(self.last + 1, offset - 1);
            self.last = offset;
        } else if self.fill(offset) {
            self.totals.out_of_order += 1;
        } else {
            self.totals.duplicates += 1;
        }
    }

    /// A publication of a channel that keeps no offsets: it can only be counted.
    pub(super) fn take_unnumbered(&mut self) {
        self.totals.received += 1;
    }

    /// The account, with what is still missing counted as lost.
    pub(super) fn totals(&self) -> Totals {
        Totals { lost: self.totals.lost + missing(&self.gaps), ..self.totals }
    }

    fn open_gap(&mut self, from: u64, to: u64) {
        if self.gaps.len() == MAX_GAPS {
            let (first, last) = self.gaps.remove(0);
            self.totals.lost += last - first + 1;
        }
        self.gaps.push((from, to));
    }

    /// Takes `offset` out of the gaps; false when it was not missing.
    fn fill(&mut self, offset: u64) -> bool {
        let Some(at) = self.gaps.iter().position(|(from, to)| (*from..=*to).contains(&offset)) else { return false };
        let (from, to) = self.gaps.remove(at);
        if offset < to {
            self.gaps.insert(at, (offset + 1, to));
        }
        if from < offset {
            self.gaps.insert(at, (from, offset - 1));
        }
        true
    }
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Totals) {
        self.received += other.received;
        self.recovered += other.recovered;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.announced_gaps += other.announced_gaps;
        self.announced_missing += other.announced_missing;
        self.insufficient_state += other.insufficient_state;
        self.recoveries += other.recoveries;
    }

    /// True when every offset came once and in order, or the server said that it would not.
    pub fn is_whole(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.out_of_order == 0
    }
}

fn missing(gaps: &[(u64, u64)]) -> u64 {
    gaps.iter().map(|(from, to)| to - from + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(offsets: &[u64]) -> Totals {
        let mut ledger = Ledger::default();
        ledger.begin(0, 0);
        for offset in offsets {
            ledger.take(*offset, Way::Push);
        }
        ledger.totals()
    }

    #[test]
    fn every_offset_once_in_order_is_whole() {
        let totals = after(&[1, 2, 3]);
        assert!(totals.is_whole());
        assert_eq!(totals.received, 3);
    }

    #[test]
    fn losses_duplicates_and_late_comers_are_told_apart() {
        let cases = [
            (&[1, 3][..], (1, 0, 0)),
            (&[1, 2, 2, 3], (0, 1, 0)),
            (&[1, 3, 2, 4], (0, 0, 1)),
            (&[1, 5, 3, 3], (2, 1, 1)),
            (&[4, 1, 2, 3, 1], (0, 1, 3)),
        ];
        for (offsets, expected) in cases {
            let totals = after(offsets);
            assert_eq!((totals.lost, totals.duplicates, totals.out_of_order), expected, "{offsets:?}");
            assert!(!totals.is_whole(), "{offsets:?}");
        }
    }

    #[test]
    fn an_announced_gap_is_no_loss() {
        let mut ledger = Ledger::default();
        ledger.begin(10, 0);
        ledger.take(11, Way::Push);
        ledger.announce_gap(20, 0);
        ledger.take(21, Way::Push);
        let totals = ledger.totals();
        assert!(totals.is_whole());
        assert_eq!((totals.announced_gaps, totals.announced_missing), (1, 9));
        assert_eq!(ledger.position(), Some((21, 0)));
    }

    #[test]
    fn a_new_epoch_begins_anew_and_forgives_no_silent_gap() {
        let mut ledger = Ledger::default();
        ledger.begin(10, 0);
        ledger.take(13, Way::Push);
        ledger.announce_gap(2, 1);
        ledger.take(3, Way::Push);
        assert_eq!(ledger.totals().lost, 2);
        assert_eq!(ledger.position(), Some((3, 1)));
    }

    #[test]
    fn many_gaps_are_bounded_and_all_counted() {
        let offsets: Vec<u64> = (1..=1_000).map(|number| number * 2).collect();
        assert_eq!(after(&offsets).lost, 1_000);
    }
}
