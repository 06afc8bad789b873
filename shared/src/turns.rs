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

/// One turn in so many is one user's, at most, and as many are kept for those who have none: whoever takes all of theirs, and is slow with
/// them, leaves room for others.
const SHARE: usize = 4;

/// So many of a process.
#[derive(Debug)]
pub struct Turns {
    common: Arc<Semaphore>,
    /// For those who have no turn yet: a few who have all of theirs leave it free.
    kept: Arc<Semaphore>,
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
        let n_kept = n_turns / SHARE;
        Self {
            common: Arc::new(Semaphore::new(n_turns - n_kept)),
            kept: Arc::new(Semaphore::new(n_kept)),
            n_of_each: n_kept.max(1),
            by_user: Mutex::default(),
        }
    }

    fn own(&self, user_id: UserId) -> Arc<Semaphore> {
        let mut by_user = self.by_user.lock().expect("nothing panics while it holds this lock");
        by_user.retain(|_, own| Arc::strong_count(own) > 1);
        Arc::clone(by_user.entry(user_id).or_insert_with(|| Arc::new(Semaphore::new(self.n_of_each))))
    }

    fn is_first(&self, own: &OwnedSemaphorePermit) -> bool {
        own.semaphore().available_permits() + 1 == self.n_of_each
    }

    /// Whoever comes first goes first; `None` when the turn does not come in time.
    pub async fn within(&self, user_id: UserId, patience: Duration) -> Option<Turn> {
        let turn = async {
            let own = self.own(user_id).acquire_owned().await.ok()?;
            let common = Arc::clone(&self.common).acquire_owned();
            let of_all = if self.is_first(&own) {
                tokio::select! {
                    of_all = common => of_all,
                    of_all = Arc::clone(&self.kept).acquire_owned() => of_all,
                }
            } else {
                common.await
            };
            Some(Turn { _own: own, _of_all: of_all.ok()? })
        };
        timeout(patience, turn).await.ok()?
    }

    pub fn at_once(&self, user_id: UserId) -> Option<Turn> {
        let own = self.own(user_id).try_acquire_owned().ok()?;
        let common = Arc::clone(&self.common).try_acquire_owned().ok();
        let kept = || if self.is_first(&own) { Arc::clone(&self.kept).try_acquire_owned().ok() } else { None };
        let of_all = common.or_else(kept)?;
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
        assert_eq!((turns.common.available_permits(), turns.kept.available_permits()), (6, 2));
        drop(turns.own(other));
        assert_eq!(turns.by_user.lock().unwrap().len(), 1, "who has none is forgotten");
    }

    #[tokio::test]
    async fn a_few_who_have_all_of_theirs_leave_turns_to_those_who_have_none() {
        let turns = Turns::new(16);
        let mut taken = Vec::new();
        for user in std::iter::repeat_with(UserId::new).take(4) {
            taken.extend(std::iter::from_fn(|| turns.at_once(user)));
        }
        assert!(taken.len() < 16);
        let (first, second) = (UserId::new(), UserId::new());
        taken.push(turns.at_once(first).unwrap());
        assert!(turns.at_once(first).is_none(), "those that are kept are first ones");
        taken.push(turns.within(second, Duration::from_mins(1)).await.unwrap());
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
