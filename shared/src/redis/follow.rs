//! The task that knows who is master: it asks once a second, and at once when a command met a server that is gone, refuses
//! writes or sends elsewhere.
//!
//! Asking in any case is what leaves a master that does not fail but hangs, or that is cut off from those who replaced it: no
//! error would ever tell of it, and until it is left, what is written to it is lost.

use super::{
    address::{Entry, Node},
    cluster::Cluster,
    sentinel::Sentinels,
    trust::Trust,
    view::View,
};
use redis::{Client, RedisError, RedisResult};
use std::{
    io::{Error, ErrorKind},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

/// How long a master that was replaced without a sign of it is written to at most, an answer's time aside.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a failed look.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// However many commands fail, those who are asked are asked no more often.
const PAUSE: Duration = Duration::from_millis(25);

/// Who tells.
pub(super) enum Scout {
    Sentinels(Sentinels),
    Cluster(Cluster),
}

impl Scout {
    async fn look(&mut self, known: Option<&View>) -> RedisResult<View> {
        match self {
            Self::Sentinels(sentinels) => sentinels.look(known).await,
            Self::Cluster(cluster) => cluster.look().await,
        }
    }
}

/// What the task knows; the task ends with the last of the clones.
#[derive(Clone)]
pub(super) struct Followed {
    views: watch::Receiver<Option<Arc<View>>>,
    look: Arc<Notify>,
    entry: Arc<Entry>,
    pub(super) trust: Trust,
    patience: Duration,
}

impl Followed {
    /// Starts the task on the current runtime. `patience` is how long a caller waits for the first look.
    pub(super) fn start(scout: Scout, entry: Entry, trust: Trust, patience: Duration) -> Self {
        let (sender, views) = watch::channel(None);
        let look = Arc::new(Notify::new());
        tokio::spawn(follow(scout, sender, Arc::clone(&look)));
        Self { views, look, entry: Arc::new(entry), trust, patience }
    }

    pub(super) async fn view(&self) -> RedisResult<Arc<View>> {
        if let Some(view) = self.known() {
            return Ok(view);
        }
        let mut views = self.views.clone();
        let found = timeout(self.patience, views.wait_for(Option::is_some)).await;
        let view = found.ok().and_then(Result::ok).and_then(|view| view.clone());
        view.ok_or_else(|| no_master("nobody has told yet who is master"))
    }

    /// Returns once it is known who is master.
    pub(super) async fn found(&mut self) {
        if self.views.wait_for(Option::is_some).await.is_err() {
            std::future::pending().await
        }
    }

    /// Returns when others are masters, or have other slots, than when this was last called on this clone.
    pub(super) async fn changed(&mut self) {
        if self.views.changed().await.is_err() {
            // Nothing will change any more.
            std::future::pending().await
        }
    }

    /// As far as it is known already.
    pub(super) fn known(&self) -> Option<Arc<View>> {
        self.views.borrow().clone()
    }

    /// Has the task look now.
    pub(super) fn doubt(&self) {
        self.look.notify_one();
    }

    pub(super) fn client(&self, node: &Node) -> RedisResult<Client> {
        self.entry.client(node)
    }

    /// Ends when `node` is no master any more.
    pub(super) async fn left(&self, node: &Node) {
        let mut views = self.views.clone();
        let is_gone = |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| !view.masters.contains(node));
        drop(views.wait_for(is_gone).await);
    }
}

/// An error that counts as Redis being away.
pub(super) fn no_master(why: &'static str) -> RedisError {
    Error::new(ErrorKind::NotConnected, why).into()
}

async fn follow(mut scout: Scout, views: watch::Sender<Option<Arc<View>>>, look: Arc<Notify>) {
    let mut was_found = true;
    loop {
        let known = views.borrow().clone();
        let found = tokio::select! {
            found = scout.look(known.as_deref()) => found,
            () = views.closed() => return,
        };
        let next = if found.is_ok() { LOOK_EVERY } else { LOOK_AGAIN };
        match found {
            Ok(view) => {
                was_found = true;
                if known.as_deref() != Some(&view) {
                    note(known.as_deref(), &view);
                    views.send_replace(Some(Arc::new(view)));
                }
            }
            Err(error) => {
                if std::mem::take(&mut was_found) {
                    tracing::warn!(%error, "who is master of Redis cannot be found out; the last one known stays");
                }
            }
        }
        sleep(PAUSE).await;
        tokio::select! {
            () = views.closed() => return,
            () = look.notified() => {}
            () = sleep(next) => {}
        }
    }
}

fn note(known: Option<&View>, view: &View) {
    let masters = view.masters.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match known {
        None => tracing::debug!(masters, "Redis has masters"),
        Some(known) if known.masters != view.masters => tracing::warn!(masters, "Redis has other masters"),
        Some(_) => tracing::info!(masters, "slots or replicas of Redis have moved"),
    }
}
