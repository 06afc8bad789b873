//! What takes a while, of which a process does so much at once, and of which no one user has all.

use crate::ids::UserId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// One turn in so many is one user's, at most: whoever takes all of theirs, and is slow with them, leaves room for others.
const SHARE: usize = 4;

/// So many of a process.
#[derive(Debug)]
pub struct Turns {
    of_all: Arc<Semaphore>,
    n_of_each: usize,
    /// Of those who have a turn or wait for one.
    by_user: Mutex<HashMap<UserId, Arc<Semaphore>>>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turns {
    pub fn new(n_turns: usize) -> Self {
        Self { of_all: Arc::new(Semaphore::new(n_turns)), n_of_each: (n_turns / SHARE).max(1), by_user: Mutex::default() }
    }

    fn own(&self, user_id: UserId) -> Arc<Semaphore> {
        let mut by_user = self.by_user.lock().expect("nothing panics while it holds this lock");
        by_user.retain(|_, own| Arc::strong_count(own) > 1);
        Arc::clone(by_user.entry(user_id).or_insert_with(|| Arc::new(Semaphore::new(self.n_of_each))))
    }

    /// Whoever comes first goes first; `None` when the turn does not come in time.
    pub async fn within(&self, user_id: UserId, patience: Duration) -> Option<Turn> {
        let turn = async {
            let own = self.own(user_id).acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.of_all).acquire_owned().await.ok()?;
            Some(Turn { _own: own, _of_all: of_all })
        };
        timeout(patience, turn).await.ok()?
    }

    pub fn at_once(&self, user_id: UserId) -> Option<Turn> {
        let own = self.own(user_id).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.of_all).try_acquire_owned().ok()?;
        Some(Turn { _own: own, _of_all: of_all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_has_more_than_a_share_of_the_turns() {
        let turns = Turns::new(8);
        let (one, other) = (UserId::new(), UserId::new());
        let mut of_one = vec![turns.at_once(one).unwrap(), turns.within(one, Duration::from_secs(1)).await.unwrap()];
        assert!(turns.at_once(one).is_none(), "a quarter");
        let of_other = turns.at_once(other).unwrap();
        of_one.pop();
        of_one.push(turns.at_once(one).expect("one was given back"));
        drop((of_one, of_other));
        drop(turns.own(one));
        assert_eq!(turns.of_all.available_permits(), 8);
        drop(turns.own(other));
        assert_eq!(turns.by_user.lock().unwrap().len(), 1, "who has none is forgotten");
    }

    #[tokio::test]
    async fn where_there_is_one_turn_everybody_may_have_it() {
        let turns = Turns::new(1);
        let first = turns.at_once(UserId::new()).unwrap();
        assert!(turns.at_once(UserId::new()).is_none());
        drop(first);
        turns.at_once(UserId::new()).unwrap();
    }
}
