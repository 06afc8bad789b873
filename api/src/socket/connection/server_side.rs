//! Subscriptions that the server makes: those that come with `connect`, and those that are ordered later.

use super::{
    Connection, Phase,
    commands::Failure,
    membership::{Left, Side},
    subscribe::{Hearing, Wanted},
};
use crate::socket::protocol::{
    close,
    error::Refusal,
    reply::{self, Expiry, Unsubscribed},
};
use serde_json::value::RawValue;
use shared::channels::{Addressee, ChannelName, Position, ServerSubscription, sessions};
use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

/// What a `connect` brings of publications that were missed, over all of its channels: they are in one answer, which is held until it is read, and
/// each channel may have 1 MiB. Those that would pass it begin at the top.
const MISSED_BYTES_MAX: usize = 4 << 20;

/// A subscription that comes with `connect`, and what it tells the client.
pub(super) struct Given {
    pub(super) name: ChannelName,
    pub(super) hearing: Hearing,
    pub(super) data: Option<Arc<RawValue>>,
}

impl Connection {
    /// Joins what the token and the user's sessions subscribe the connection to. `positions` are where the client stands.
    pub(super) async fn hear_given(
        self: &Rc<Self>,
        from_token: Vec<ServerSubscription>,
        mut positions: HashMap<String, Position>,
    ) -> Result<Vec<Given>, Failure> {
        let ctx = &self.hub.state.ctx;
        let user = Arc::clone(&self.holder().subject.user);
        let n_from_token = from_token.len();
        let mut subscriptions = from_token;
        if !user.is_empty() {
            subscriptions.extend(sessions::remembered(ctx, &user).await?);
        }
        let (mut given, mut names, mut n_bytes) = (Vec::with_capacity(subscriptions.len()), HashSet::new(), 0);
        for (index, subscription) in subscriptions.into_iter().enumerate() {
            let ServerSubscription { channel: name, chan_info, data } = subscription;
            if !names.insert(name.clone()) {
                continue;
            }
            let channel = match ctx.namespaces.resolve(name.as_str()) {
                Ok(channel) => channel,
                Err(error) if index < n_from_token => return Err(error.into()),
                // The namespace is configured no more.
                Err(_) => continue,
            };
            let wanted = wanted_by_server(positions.remove(name.as_str()));
            let mut hearing = self.hear(&channel, Side::Server, wanted, chan_info).await.map_err(too_many)?;
            if n_bytes + hearing.missed_bytes() > MISSED_BYTES_MAX {
                hearing.forget_missed();
            }
            n_bytes += hearing.missed_bytes();
            given.push(Given { name, hearing, data });
        }
        Ok(given)
    }

    /// An order: subscribes the connection, and tells the client.
    pub(in crate::socket) async fn subscribed_by_server(self: Rc<Self>, subscription: ServerSubscription) {
        if let Err(failure) = self.take_subscription(subscription).await
            && let Failure::Closed(reason) = failure
        {
            self.close(reason);
        }
    }

    async fn take_subscription(self: &Rc<Self>, subscription: ServerSubscription) -> Result<(), Failure> {
        let ServerSubscription { channel: name, chan_info, data } = subscription;
        if self.phase() != Phase::Open || self.is_subscribed(name.as_str()) {
            return Ok(());
        }
        let channel = self.hub.state.ctx.namespaces.resolve(name.as_str())?;
        let hearing = self.hear(&channel, Side::Server, wanted_by_server(None), chan_info).await.map_err(too_many)?;
        let begun = self.begin_following(hearing)?;
        self.send(reply::push(name.as_str(), "subscribe", &begun.answer(Expiry::default(), data.as_deref())));
        self.release(&begun);
        self.appear(&begun.channel).await;
        Ok(())
    }

    /// An order: ends a subscription of whichever side, and tells the client.
    pub(in crate::socket) fn unsubscribed_by_server(&self, channel: &str, code: u32, reason: &str) {
        if self.phase() == Phase::Open && !matches!(self.leave(channel), Left::WasNotIn) {
            self.send(reply::push(channel, "unsubscribe", &Unsubscribed { code, reason }));
        }
    }

    pub(in crate::socket) fn is_addressed(&self, to: &Addressee) -> bool {
        let holder = self.holder.borrow();
        let Some(holder) = holder.as_ref() else { return false };
        let is_named = to.user.is_some() || to.client.is_some();
        is_named
            && to.user.as_deref().is_none_or(|user| user == &*holder.subject.user)
            && to.client.as_deref().is_none_or(|client| client == &*holder.info.client)
    }
}

/// The server decides for the client: it follows wherever it can.
fn wanted_by_server(since: Option<Position>) -> Wanted {
    Wanted { positioned: true, recoverable: true, join_leave: false, since }
}

/// A client that did not ask for a subscription cannot be refused one.
fn too_many(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(Refusal { code, .. }) if code == Refusal::LIMIT_EXCEEDED.code => Failure::Closed(close::CHANNEL_LIMIT),
        Failure::Refused(_) | Failure::Closed(_) => failure,
    }
}
