//! What many take parts of, such as places or memory: so much in all, and no one holder in the way of all others.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Of so many parts of all there is the last is kept for holders who have no more than such a part: whoever has all they may leave it free.
pub const PARTS: usize = 4;

/// Whether of `max`, the last `kept` of which are for such holders, there may be taken `n_taken`, and by one of them `n_of_holder`.
pub fn may_be_taken(max: usize, kept: usize, n_taken: usize, n_of_holder: usize) -> bool {
    n_taken <= max && (n_taken <= max - kept || n_of_holder <= max / PARTS)
}

/// So many units of a process.
#[derive(Debug)]
pub struct Shares<H> {
    max: usize,
    /// The last units, for holders who have no more than a quarter of all.
    kept: usize,
    taken: Mutex<Taken<H>>,
}

#[derive(Debug)]
struct Taken<H> {
    n: usize,
    by_holder: HashMap<H, usize>,
}

/// Some of them, until it is dropped.
#[derive(Debug)]
pub struct Share<H: Eq + Hash> {
    of: Arc<Shares<H>>,
    holder: H,
    n: usize,
}

impl<H: Eq + Hash + Clone> Shares<H> {
    /// The last quarter is kept.
    pub fn up_to(max: usize) -> Arc<Self> {
        Self::keeping(max, max / PARTS)
    }

    /// Keeps less than a quarter where one part may be larger than what that leaves.
    pub fn of_parts_up_to(max: usize, largest: usize) -> Arc<Self> {
        Self::keeping(max, (max / PARTS).min(max.saturating_sub(largest)))
    }

    fn keeping(max: usize, kept: usize) -> Arc<Self> {
        Arc::new(Self { max, kept, taken: Mutex::new(Taken { n: 0, by_holder: HashMap::new() }) })
    }

    /// `None` when there is not so much for this holder.
    pub fn take(self: &Arc<Self>, holder: H, n: usize) -> Option<Share<H>> {
        let mut share = Share { of: Arc::clone(self), holder, n: 0 };
        share.grow(n).then_some(share)
    }

    /// Whether [`take`](Self::take) would give so much now.
    pub fn has_room(&self, holder: &H, n: usize) -> bool {
        self.fits(&self.lock(), holder, n)
    }

    fn fits(&self, taken: &Taken<H>, holder: &H, n: usize) -> bool {
        let n_of_holder = taken.by_holder.get(holder).copied().unwrap_or(0);
        may_be_taken(self.max, self.kept, taken.n.saturating_add(n), n_of_holder.saturating_add(n))
    }
}

impl<H> Shares<H> {
    fn lock(&self) -> MutexGuard<'_, Taken<H>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Eq + Hash + Clone> Share<H> {
    /// So much more; `false` when there is not, and all is as before.
    pub fn grow(&mut self, n: usize) -> bool {
        let mut taken = self.of.lock();
        if !self.of.fits(&taken, &self.holder, n) {
            return false;
        }
        taken.n += n;
        *taken.by_holder.entry(self.holder.clone()).or_default() += n;
        self.n += n;
        true
    }

    pub fn n(&self) -> usize {
        self.n
    }
}

impl<H: Eq + Hash> Drop for Share<H> {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        taken.n -= self.n;
        if let Some(n_of_holder) = taken.by_holder.get_mut(&self.holder) {
            *n_of_holder -= self.n;
            if *n_of_holder == 0 {
                taken.by_holder.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(shares: &Arc<Shares<u8>>, holder: u8) -> Vec<Share<u8>> {
        std::iter::from_fn(|| shares.take(holder, 1)).collect()
    }

    #[test]
    fn the_last_quarter_is_for_those_who_have_little() {
        let shares = Shares::up_to(100);
        let theirs = take_all(&shares, 1);
        let others = take_all(&shares, 2);
        assert_eq!((theirs.len(), others.len()), (75, 25));
        assert!(shares.take(3, 1).is_none(), "all are taken");
        drop(theirs);
        assert_eq!(take_all(&shares, 2).len(), 50, "they have a quarter already");
        drop(others);
        assert!(shares.lock().by_holder.is_empty());
    }

    #[test]
    fn a_share_grows_while_there_is_room_and_gives_all_of_it_back() {
        let shares = Shares::up_to(100);
        let mut share = shares.take(1, 60).unwrap();
        assert!(share.grow(15) && !share.grow(1) && share.n() == 75);
        assert!(shares.has_room(&2, 25) && !shares.has_room(&2, 26));
        drop(share);
        assert!(shares.has_room(&2, 75) && !shares.has_room(&2, 76));
    }

    #[test]
    fn there_is_room_for_the_largest_part_and_for_one_alone() {
        assert!(Shares::of_parts_up_to(100, 90).take(1, 90).is_some());
        assert!(Shares::of_parts_up_to(100, 100).take(1, 100).is_some());
        let one = Shares::up_to(1);
        let place = one.take(1, 1);
        assert!(place.is_some() && one.take(2, 1).is_none() && Shares::up_to(0).take(1, 1).is_none());
    }
}
