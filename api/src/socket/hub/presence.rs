//! Presence as a thread keeps it: what its clients want of it is made so in the order in which they want it, in batches, and
//! those who are seen are refreshed.
//!
//! One change of a channel is under way at a time, and only the last wish of a client goes into the next. So a client that
//! leaves and comes straight back is not taken out by its own late departure.

use super::{Hub, channel::HubChannel};
use crate::socket::connection::Connection;
use actix_web::rt;
use shared::channels::{Channel, ChannelName, ClientInfo, presence};
use std::{cell::RefCell, collections::HashMap, mem, rc::Rc, sync::Arc};
use tokio::sync::{Semaphore, oneshot};

/// Channels whose changes are under way at once; the others collect theirs meanwhile.
const CHANNELS_AT_ONCE: usize = 64;

/// What a client wants of presence in a channel.
#[derive(Debug)]
enum Wish {
    Seen(ClientInfo),
    Gone,
}

/// Ends when a wish has been dealt with, or a later one of the same client has.
pub(in crate::socket) type Granted = oneshot::Receiver<()>;

/// What comes after the change of a channel that is under way.
#[derive(Debug, Default)]
struct Next {
    wishes: HashMap<Arc<str>, Wish>,
    waiting: Vec<oneshot::Sender<()>>,
}

/// The changes of a thread's channels. A channel is here while one of its changes is under way.
#[derive(Debug)]
pub(super) struct Changes {
    of_channels: RefCell<HashMap<ChannelName, Next>>,
    turns: Semaphore,
}

impl Default for Changes {
    fn default() -> Self {
        Self { of_channels: RefCell::default(), turns: Semaphore::new(CHANNELS_AT_ONCE) }
    }
}

impl Changes {
    /// What is to be done next in the channel; with `None` it is at rest.
    fn next(&self, channel: &ChannelName) -> Option<Next> {
        let mut of_channels = self.of_channels.borrow_mut();
        let next = of_channels.get_mut(channel).map(mem::take).filter(|next| !next.wishes.is_empty());
        if next.is_none() {
            of_channels.remove(channel);
        }
        next
    }
}

impl Hub {
    /// Lets others see a client in the channel.
    pub(in crate::socket) fn appears(self: &Rc<Self>, channel: &Channel, info: ClientInfo) -> Granted {
        self.wish(channel, Arc::clone(&info.client), Wish::Seen(info))
    }

    /// Takes a client out of the channel's presence.
    pub(in crate::socket) fn departs(self: &Rc<Self>, channel: &Channel, client: Arc<str>) -> Granted {
        self.wish(channel, client, Wish::Gone)
    }

    fn wish(self: &Rc<Self>, channel: &Channel, client: Arc<str>, wish: Wish) -> Granted {
        let (granted, waiting) = oneshot::channel();
        let mut of_channels = self.changes.of_channels.borrow_mut();
        let is_at_rest = !of_channels.contains_key(&channel.name);
        let next = of_channels.entry(channel.name.clone()).or_default();
        next.wishes.insert(client, wish);
        next.waiting.push(granted);
        drop(of_channels);
        if is_at_rest {
            rt::spawn(Rc::clone(self).change_presence(channel.clone()));
        }
        waiting
    }

    /// Makes the changes of a channel, one batch after the other. The process does not end before they are made.
    async fn change_presence(self: Rc<Self>, channel: Channel) {
        let _farewell = self.sockets().farewell();
        loop {
            let turn = self.changes.turns.acquire().await;
            let Some(Next { wishes, waiting }) = self.changes.next(&channel.name) else { return };
            let (mut seen, mut gone) = (Vec::new(), Vec::new());
            for (client, wish) in wishes {
                match wish {
                    Wish::Seen(info) => seen.push(info),
                    Wish::Gone => gone.push(client),
                }
            }
            let ctx = &self.state.ctx;
            // Who cannot be taken out now is gone when it has not been refreshed for a while; who is not seen yet is found
            // missing by the next refresh.
            let outcomes = [presence::leave_all(ctx, &channel, &gone).await, presence::join_all(ctx, &channel, &seen).await];
            for error in outcomes.into_iter().filter_map(Result::err) {
                tracing::debug!(%error, channel = %channel.name, "presence is not changed");
            }
            drop(turn);
            for granted in waiting {
                // It may have gone away.
                let _ = granted.send(());
            }
        }
    }

    /// Refreshes the subscribers of the channels whose turn it is.
    pub(super) fn refresh_presence(self: &Rc<Self>) {
        let Some(due) = self.refreshes.begin(self.now()) else { return };
        let hub = Rc::clone(self);
        rt::spawn(async move {
            let present: Vec<_> = due.iter().map(|channel| (channel.channel.clone(), channel.present_clients())).collect();
            let outcome = presence::refresh(&hub.state.ctx, &present).await;
            for channel in &due {
                match &outcome {
                    Ok(_) => hub.refreshes.enter(hub.now(), channel),
                    Err(_) => hub.refreshes.retry(hub.now(), channel),
                }
            }
            if let Ok(forgotten) = outcome
                && !forgotten.is_empty()
            {
                hub.see_again(&due, &forgotten);
            }
            hub.refreshes.end();
        });
    }

    /// Has those seen again that Redis has forgotten, and who have not left meanwhile.
    fn see_again(self: &Rc<Self>, channels: &[Rc<HubChannel>], forgotten: &[(Channel, Vec<String>)]) {
        let by_client = self.by_client();
        let by_name: HashMap<_, _> = channels.iter().map(|channel| (&channel.channel.name, channel)).collect();
        for (channel, clients) in forgotten {
            let here = by_name.get(&channel.name).into_iter().flat_map(|here| clients.iter().map(move |client| (here, client)));
            for (here, client) in here {
                if let Some(info) = by_client.get(client.as_str()).and_then(|connection| connection.present_info(here)) {
                    drop(self.appears(channel, info));
                }
            }
        }
    }

    /// Every open connection by its client's id.
    fn by_client(&self) -> HashMap<Arc<str>, Rc<Connection>> {
        let connections = self.connections.borrow();
        connections.iter().filter_map(|connection| Some((connection.client()?, Rc::clone(connection)))).collect()
    }
}
