//! What takes a while, of which a process does so much at once, and of which no one user has all.

use crate::{
    Code, Error, Result,
    ids::UserId,
    shares::{PARTS, Shares},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// So many wait at most: they have nothing but their connections, and what a request is.
const WAITING_MAX: usize = 1_024;

/// Who may have to wait, and holds what others want meanwhile: a request its place among those in flight.
pub trait Waiter {
    /// Gives it back; called again, this does nothing.
    fn begin_wait(&self);
    /// Takes it again, if it was given back; an error if it is not to be had.
    fn begin_work(&self) -> Result<()>;
}

/// Who holds nothing.
impl Waiter for () {
    fn begin_wait(&self) {}

    fn begin_work(&self) -> Result<()> {
        Ok(())
    }
}

/// So many of a process.
#[derive(Debug)]
pub struct Turns {
    common: Arc<Semaphore>,
    /// For those who have no turn yet: a few who have all of theirs leave it free.
    kept: Arc<Semaphore>,
    n_of_each: usize,
    /// Of those who have a turn or wait for one.
    by_user: Mutex<HashMap<UserId, Arc<Semaphore>>>,
    waiting: Arc<Shares<UserId>>,
    /// What is said to those who have none.
    busy: &'static str,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turns {
    /// One user has one part of them at most, and as many are kept for those who have none.
    pub fn new(n_turns: usize, busy: &'static str) -> Self {
        let n_kept = n_turns / PARTS;
        Self::keeping(n_kept, n_turns - n_kept, n_kept, busy)
    }

    /// One user may have all but a quarter of them.
    pub fn all_but_a_quarter(n_turns: usize, busy: &'static str) -> Self {
        let n_kept = (n_turns / PARTS).max(1).min(n_turns.saturating_sub(1));
        Self::keeping(n_kept, n_turns - n_kept, n_turns - n_kept, busy)
    }

    fn keeping(n_kept: usize, n_common: usize, n_of_each: usize, busy: &'static str) -> Self {
        Self {
            common: Arc::new(Semaphore::new(n_common)),
            kept: Arc::new(Semaphore::new(n_kept)),
            n_of_each: n_of_each.max(1),
            by_user: Mutex::default(),
            waiting: Shares::up_to(WAITING_MAX),
            busy,
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

    /// Whoever comes first goes first; refused when the turn does not come in time.
    pub async fn within(&self, user_id: UserId, patience: Duration, waiter: &impl Waiter) -> Result<Turn> {
        let turn = match self.free(user_id) {
            Some(turn) => turn,
            None => self.awaited(user_id, patience, waiter).await?,
        };
        waiter.begin_work()?;
        Ok(turn)
    }

    async fn awaited(&self, user_id: UserId, patience: Duration, waiter: &impl Waiter) -> Result<Turn> {
        let _waiting = self.waiting.take(user_id, 1).ok_or_else(|| self.busy())?;
        waiter.begin_wait();
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
        timeout(patience, turn).await.ok().flatten().ok_or_else(|| self.busy())
    }

    pub fn at_once(&self, user_id: UserId) -> Result<Turn> {
        self.free(user_id).ok_or_else(|| self.busy())
    }

    fn free(&self, user_id: UserId) -> Option<Turn> {
        let own = self.own(user_id).try_acquire_owned().ok()?;
        let common = Arc::clone(&self.common).try_acquire_owned().ok();
        let kept = || if self.is_first(&own) { Arc::clone(&self.kept).try_acquire_owned().ok() } else { None };
        let of_all = common.or_else(kept)?;
        Some(Turn { _own: own, _of_all: of_all })
    }

    fn busy(&self) -> Error {
        Error::new(Code::Overloaded, self.busy).retry_after(Duration::from_secs(rand::random_range(1..=3)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn nobody_has_more_than_a_share_of_the_turns() {
        let turns = Turns::new(8, "busy");
        let (one, other) = (UserId::new(), UserId::new());
        let mut of_one = vec![turns.at_once(one).unwrap(), turns.within(one, Duration::from_secs(1), &()).await.unwrap()];
        assert!(turns.at_once(one).is_err(), "a quarter");
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
        let turns = Turns::new(16, "busy");
        let mut taken = Vec::new();
        for user in std::iter::repeat_with(UserId::new).take(4) {
            taken.extend(std::iter::from_fn(|| turns.at_once(user).ok()));
        }
        assert!(taken.len() < 16);
        let (first, second) = (UserId::new(), UserId::new());
        taken.push(turns.at_once(first).unwrap());
        assert!(turns.at_once(first).is_err(), "those that are kept are first ones");
        taken.push(turns.within(second, Duration::from_mins(1), &()).await.unwrap());
    }

    #[tokio::test]
    async fn what_most_of_is_for_whoever_comes_has_turns_left_for_others() {
        for (n_turns, n_of_one) in [(16, 12), (4, 3), (3, 2), (2, 1)] {
            let turns = Turns::all_but_a_quarter(n_turns, "busy");
            let one = UserId::new();
            let of_one: Vec<Turn> = std::iter::from_fn(|| turns.at_once(one).ok()).collect();
            assert_eq!(of_one.len(), n_of_one);
            turns.at_once(UserId::new()).unwrap();
        }
        Turns::all_but_a_quarter(1, "busy").at_once(UserId::new()).unwrap();
    }

    #[tokio::test]
    async fn where_there_is_one_turn_everybody_may_have_it() {
        let turns = Turns::new(1, "busy");
        let first = turns.at_once(UserId::new()).unwrap();
        assert!(turns.at_once(UserId::new()).is_err());
        drop(first);
        turns.at_once(UserId::new()).unwrap();
    }

    /// What was told.
    #[derive(Default)]
    struct Told(Mutex<Vec<&'static str>>);

    impl Waiter for Told {
        fn begin_wait(&self) {
            self.0.lock().unwrap().push("wait");
        }

        fn begin_work(&self) -> Result<()> {
            self.0.lock().unwrap().push("work");
            Ok(())
        }
    }

    #[tokio::test]
    async fn who_has_to_wait_is_told_and_who_has_not_is_not() {
        let (turns, user, told) = (Turns::new(1, "busy"), UserId::new(), Told::default());
        let first = turns.within(user, Duration::from_secs(60), &told).await.unwrap();
        assert_eq!(*told.0.lock().unwrap(), ["work"]);
        let mut next = std::pin::pin!(turns.within(user, Duration::from_secs(60), &told));
        assert!((&mut next).now_or_never().is_none());
        assert_eq!(*told.0.lock().unwrap(), ["work", "wait"]);
        drop(first);
        let _second = next.await.unwrap();
        assert_eq!(*told.0.lock().unwrap(), ["work", "wait", "work"]);
        assert!(turns.within(user, Duration::ZERO, &told).await.is_err());
        assert_eq!(told.0.lock().unwrap()[3..], ["wait"], "who gave up does not work");
    }

    #[tokio::test]
    async fn so_many_wait_and_one_user_leaves_room_for_others() {
        let (turns, one, other) = (Turns::new(1, "busy"), UserId::new(), UserId::new());
        let _turn = turns.at_once(one).unwrap();
        let wait = |user| Box::pin(turns.within(user, Duration::from_secs(60), &()));
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| wait(one)).collect();
        let n_refused = waiting.iter_mut().filter_map(|wait| wait.now_or_never()).count();
        assert_eq!(n_refused, WAITING_MAX / 4);
        assert!(wait(other).now_or_never().is_none());
    }
}
