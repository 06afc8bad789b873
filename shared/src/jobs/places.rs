//! Who may wait for jobs: so many of a process, and no one user in the way of all others. A client that is gone is noticed late when it left
//! something unread behind its request, and until then its place is taken.

use crate::ids::UserId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The places of a process. The last quarter of them is for users who have less than a quarter of all.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    n: usize,
    by_user: HashMap<UserId, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    user: UserId,
}

impl Places {
    pub(super) fn up_to(max: usize) -> Self {
        Self { max, taken: Mutex::default() }
    }

    /// `None` when there is none for `user`.
    pub(super) fn take(places: &Arc<Self>, user: UserId) -> Option<Place> {
        let mut taken = places.lock();
        let n_of_user = taken.by_user.get(&user).copied().unwrap_or(0);
        let quarter = places.max / 4;
        let is_for_others = taken.n >= places.max - quarter && n_of_user >= quarter;
        if taken.n >= places.max || is_for_others {
            return None;
        }
        taken.n += 1;
        taken.by_user.insert(user, n_of_user + 1);
        drop(taken);
        Some(Place { places: Arc::clone(places), user })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.n -= 1;
        if let Some(n_of_user) = taken.by_user.get_mut(&self.user) {
            *n_of_user -= 1;
            if *n_of_user == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(places: &Arc<Places>, user: UserId) -> Vec<Place> {
        std::iter::from_fn(|| Places::take(places, user)).collect()
    }

    #[test]
    fn the_last_quarter_is_for_those_who_have_little() {
        let places = Arc::new(Places::up_to(100));
        let (greedy, modest) = (UserId::new(), UserId::new());
        let theirs = take_all(&places, greedy);
        let others = take_all(&places, modest);
        assert_eq!((theirs.len(), others.len()), (75, 25));
        assert!(Places::take(&places, UserId::new()).is_none(), "all are taken");
        drop(theirs);
        assert_eq!(take_all(&places, modest).len(), 50, "they have a quarter already");
        drop(others);
        assert!(places.lock().by_user.is_empty());
    }

    #[test]
    fn one_place_is_for_anyone() {
        let places = Arc::new(Places::up_to(1));
        let place = Places::take(&places, UserId::new());
        assert!(place.is_some() && Places::take(&places, UserId::new()).is_none());
        assert!(Places::take(&Arc::new(Places::up_to(0)), UserId::new()).is_none());
    }
}
