//! Presence as a thread keeps it: its subscribers are refreshed in batches, and those who left are taken out together.

use super::Hub;
use crate::socket::connection::Connection;
use actix_web::rt;
use shared::channels::{Channel, ChannelName, connections, presence};
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::time::{self, MissedTickBehavior};

pub(super) const REFRESH_EVERY: Duration = presence::PRESENCE_REFRESH_EVERY;

/// A channel, and the ids of clients in it.
type Clients = (Channel, Vec<Arc<str>>);

/// Who left, and has not been taken out.
#[derive(Debug, Default)]
pub(super) struct Departures {
    of_channels: RefCell<HashMap<ChannelName, Clients>>,
    of_users: RefCell<Vec<(Arc<str>, Arc<str>)>>,
    is_under_way: Cell<bool>,
}

impl Hub {
    /// Takes the client out of the channel's presence, together with others who leave now.
    pub(in crate::socket) fn departs(self: &Rc<Self>, channel: &Channel, client: Arc<str>) {
        let mut of_channels = self.departures.of_channels.borrow_mut();
        let (_, clients) = of_channels.entry(channel.name.clone()).or_insert_with(|| (channel.clone(), Vec::new()));
        clients.push(client);
        self.take_out();
    }

    /// Counts a connection out of those of its user.
    pub(in crate::socket) fn counted_out(self: &Rc<Self>, user: Arc<str>, client: Arc<str>) {
        self.departures.of_users.borrow_mut().push((user, client));
        self.take_out();
    }

    /// Begins to take out whoever leaves in this turn of the thread. The process does not end before it is done.
    fn take_out(self: &Rc<Self>) {
        if self.departures.is_under_way.replace(true) {
            return;
        }
        let (hub, farewell) = (Rc::clone(self), self.sockets().farewell());
        rt::spawn(async move {
            loop {
                let of_channels: Vec<_> = hub.departures.of_channels.take().into_values().collect();
                let of_users = hub.departures.of_users.take();
                if of_channels.is_empty() && of_users.is_empty() {
                    break;
                }
                let ctx = &hub.state.ctx;
                // Who cannot be taken out now is gone when it has not been refreshed for a while.
                let outcome = presence::leave_all(ctx, &of_channels).await.and(connections::leave(ctx, &of_users).await);
                if let Err(error) = outcome {
                    tracing::debug!(%error, "clients that left are not taken out of presence");
                }
            }
            hub.departures.is_under_way.set(false);
            drop(farewell);
        });
    }

    /// Refreshes the subscribers of the channels whose turn it is.
    pub(super) fn refresh_presence(self: &Rc<Self>) {
        let Some(due) = self.refreshes.begin(self.now()) else { return };
        let hub = Rc::clone(self);
        rt::spawn(async move {
            let present: Vec<_> = due.iter().map(|channel| (channel.channel.clone(), channel.present_clients())).collect();
            let by_client = OnceCell::new();
            let outcome = presence::refresh(&hub.state.ctx, &present, |channel, client| {
                let by_client = by_client.get_or_init(|| hub.by_client());
                by_client.get(client)?.present_info(channel.name.as_str())
            });
            let outcome = outcome.await;
            for channel in &due {
                match &outcome {
                    Ok(()) => hub.refreshes.enter(hub.now(), channel),
                    Err(_) => hub.refreshes.retry(hub.now(), channel),
                }
            }
            hub.refreshes.end();
        });
    }

    /// Every open connection by its client's id: only made when Redis has forgotten who was there.
    fn by_client(&self) -> HashMap<Arc<str>, Rc<Connection>> {
        let connections = self.connections.borrow();
        connections.iter().filter_map(|connection| Some((connection.client()?, Rc::clone(connection)))).collect()
    }

    /// Keeps the connections of users counted, for ever.
    pub(super) async fn keep_counted(self: Rc<Self>) {
        let mut rounds = time::interval(connections::CONNECTION_REFRESH_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let counted: Vec<_> = self.connections.borrow().iter().filter_map(|connection| connection.user_and_client()).collect();
            if let Err(error) = connections::refresh(&self.state.ctx, &counted).await {
                tracing::debug!(%error, "the connections of users are not refreshed");
            }
        }
    }
}
