//! The connections of users, counted over all processes: a thread keeps its own counted, and counts out those that end.

use super::Hub;
use actix_web::rt;
use shared::channels::{
    ChannelError,
    connections::{self, Entry},
};
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::time::{self, MissedTickBehavior, sleep};

/// A user who has as many connections as there may be is looked at again so often, and so many times: one that was closed a
/// moment ago, perhaps elsewhere, is still counted. Somebody who reloads a page at the limit is let in by that.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);
const N_LOOKS: usize = 5;

/// A user, and one of their clients.
type Counted = (Arc<str>, Arc<str>);

/// Who ended, and has not been counted out.
#[derive(Debug, Default)]
pub(super) struct Ended {
    counted: RefCell<Vec<Counted>>,
    is_under_way: Cell<bool>,
}

impl Hub {
    /// Counts a connection in, unless its user has as many as there may be.
    pub(in crate::socket) async fn count_in(&self, user: &str, client: &str) -> Result<Entry, ChannelError> {
        let connections_max = self.rules.connections_per_user;
        for _ in 1..N_LOOKS {
            match connections::enter(&self.state.ctx, user, client, connections_max).await? {
                Entry::Entered => return Ok(Entry::Entered),
                Entry::Full => sleep(LOOK_AGAIN_AFTER).await,
            }
        }
        connections::enter(&self.state.ctx, user, client, connections_max).await
    }

    /// Counts a connection out, together with others that end now. The process does not end before it is done.
    pub(in crate::socket) fn count_out(self: &Rc<Self>, user: Arc<str>, client: Arc<str>) {
        self.ended.counted.borrow_mut().push((user, client));
        if self.ended.is_under_way.replace(true) {
            return;
        }
        let (hub, farewell) = (Rc::clone(self), self.sockets().farewell());
        rt::spawn(async move {
            loop {
                let ended = hub.ended.counted.take();
                if ended.is_empty() {
                    break;
                }
                // Who cannot be counted out now is when it has not been refreshed for a while.
                if let Err(error) = connections::leave(&hub.state.ctx, &ended).await {
                    tracing::debug!(%error, "connections that ended are not counted out");
                }
            }
            hub.ended.is_under_way.set(false);
            drop(farewell);
        });
    }

    /// Keeps the connections of users counted, for ever.
    pub(super) async fn keep_counted(self: Rc<Self>) {
        let mut rounds = time::interval(connections::CONNECTION_REFRESH_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let counted = self.counted();
            if let Err(error) = connections::refresh(&self.state.ctx, &counted).await {
                tracing::debug!(%error, "the connections of users are not refreshed");
            }
            // One that ended meanwhile may have been counted in again behind its end.
            let still_here: HashSet<_> = self.counted().into_iter().collect();
            for (user, client) in counted.into_iter().filter(|counted| !still_here.contains(counted)) {
                self.count_out(user, client);
            }
        }
    }

    fn counted(&self) -> Vec<Counted> {
        self.connections.borrow().iter().filter_map(|connection| connection.user_and_client()).collect()
    }
}
