//! How many files one process reads and writes at once for callers, and what it knows of the store without asking.

use super::{StoreId, store};
use crate::{Code, Context, Error, Result, config::Settings, ids::UserId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How long an upload waits for its turn: shorter than clients wait for an answer.
const TURN_WITHIN: Duration = Duration::from_secs(10);
/// One turn in so many is one user's, at most: whoever takes all of theirs, and is slow with them, leaves room for others.
const SHARE: usize = 4;

#[derive(Debug)]
struct Turns {
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
    fn new(n_turns: usize) -> Self {
        Self { of_all: Arc::new(Semaphore::new(n_turns)), n_of_each: (n_turns / SHARE).max(1), by_user: Mutex::default() }
    }

    fn own(&self, user_id: UserId) -> Arc<Semaphore> {
        let mut by_user = self.by_user.lock().expect("nothing panics while it holds this lock");
        by_user.retain(|_, own| Arc::strong_count(own) > 1);
        Arc::clone(by_user.entry(user_id).or_insert_with(|| Arc::new(Semaphore::new(self.n_of_each))))
    }

    async fn next(&self, user_id: UserId) -> Result<Turn> {
        let own = self.own(user_id).acquire_owned().await.map_err(Error::internal)?;
        let of_all = Arc::clone(&self.of_all).acquire_owned().await.map_err(Error::internal)?;
        Ok(Turn { _own: own, _of_all: of_all })
    }

    fn at_once(&self, user_id: UserId) -> Option<Turn> {
        let own = self.own(user_id).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.of_all).try_acquire_owned().ok()?;
        Some(Turn { _own: own, _of_all: of_all })
    }
}

#[derive(Debug)]
pub struct LocalFiles {
    uploads: Turns,
    downloads: Turns,
    store_id: OnceCell<StoreId>,
}

impl LocalFiles {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { uploads: Turns::new(settings.uploads_max), downloads: Turns::new(settings.downloads_max), store_id: OnceCell::new() }
    }

    /// Whoever comes first goes first; whose turn does not come in time may ask again. Held for as long as the upload lasts.
    pub async fn upload_turn(&self, user_id: UserId) -> Result<Turn> {
        timeout(TURN_WITHIN, self.uploads.next(user_id)).await.map_err(|_| busy("uploaded"))?
    }

    /// Held for as long as the download lasts, and that may be long: nobody waits for it.
    pub fn download_turn(&self, user_id: UserId) -> Result<Turn> {
        self.downloads.at_once(user_id).ok_or_else(|| busy("downloaded"))
    }

    pub(super) async fn store_id(&self, ctx: &Context) -> Result<StoreId> {
        self.store_id.get_or_try_init(|| store::store_id(&ctx.pg)).await.copied()
    }
}

fn busy(done: &str) -> Error {
    Error::new(Code::Overloaded, format!("Too many files are being {done}.")).retry_after(Duration::from_secs(rand::random_range(1..=3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_has_more_than_a_share_of_the_turns() {
        let turns = Turns::new(8);
        let (one, other) = (UserId::new(), UserId::new());
        let mut of_one = vec![turns.at_once(one).unwrap(), turns.next(one).await.unwrap()];
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
