//! What a connection is subscribed to.

use super::{Connection, Phase};
use crate::socket::{
    hub::{Granted, HubChannel, NEVER, Standing, Tick},
    protocol::{
        close::{self, UnsubscribeReason},
        error::Refusal,
        reply::{self, Expiry, Unsubscribed},
    },
};
use serde_json::value::RawValue;
use shared::channels::{self, Channel};
use std::{rc::Rc, sync::Arc};
use time::OffsetDateTime;

/// One subscription, from its beginning on.
#[derive(Debug)]
pub(super) struct Membership {
    channel: Rc<HubChannel>,
    /// Where the channel keeps this subscriber.
    place: u32,
    pub(super) side: Side,
    /// Others see the connection in the channel.
    pub(super) is_present: bool,
    pub(super) expires_at: Tick,
    /// How they see it there, beside what its own token says.
    pub(super) chan_info: Option<Arc<RawValue>>,
}

/// Who made a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    /// Clients never make one again themselves: where it cannot go on, the connection ends.
    Server,
}

/// How a subscription ended. Nobody has to wait for what others see.
#[derive(Debug)]
pub(super) enum Left {
    WasNotIn,
    /// Nobody saw it.
    Silently,
    /// Others see it no more when this ends.
    Unseen(Granted),
}

/// What a subscription begins with.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) side: Side,
    pub(super) standing: Standing,
    pub(super) hears_presence: bool,
    pub(super) chan_info: Option<Arc<RawValue>>,
}

impl Connection {
    /// Adds a subscription to `channel`; publications come from here on, or are kept.
    pub(super) fn join(self: &Rc<Self>, channel: &Channel, joining: Joining) -> Result<Rc<HubChannel>, Refusal> {
        if self.phase() == Phase::Closing {
            // Nobody would end a subscription that began after all the others ended.
            return Err(Refusal::INTERNAL);
        }
        if self.is_subscribed(channel.name.as_str()) {
            return Err(Refusal::ALREADY_SUBSCRIBED);
        }
        if self.memberships.borrow().len() >= self.hub.rules.channels_max {
            return Err(Refusal::LIMIT_EXCEEDED);
        }
        let Joining { side, standing, hears_presence, chan_info } = joining;
        let (channel, place) = self.hub.join(channel, self, standing, hears_presence)?;
        let membership = Membership { channel: Rc::clone(&channel), place, side, is_present: false, expires_at: NEVER, chan_info };
        self.memberships.borrow_mut().push(membership);
        Ok(channel)
    }

    /// Ends the subscription to `channel`, if there is one.
    pub(super) fn leave(&self, channel: &str) -> Left {
        let membership = {
            let mut memberships = self.memberships.borrow_mut();
            let Some(index) = memberships.iter().position(|membership| membership.channel.name() == channel) else { return Left::WasNotIn };
            memberships.swap_remove(index)
        };
        self.part(&membership)
    }

    pub(super) fn leave_all(&self) {
        for membership in self.memberships.take() {
            self.part(&membership);
        }
    }

    fn part(&self, membership: &Membership) -> Left {
        self.hub.leave(&membership.channel, membership.place);
        match self.client().filter(|_| membership.is_present) {
            Some(client) => Left::Unseen(self.hub.departs(&membership.channel.channel, client)),
            None => Left::Silently,
        }
    }

    /// The channel of this name, if the connection is subscribed to it.
    pub(super) fn joined(&self, channel: &str) -> Option<Rc<HubChannel>> {
        let memberships = self.memberships.borrow();
        memberships.iter().find(|membership| membership.channel.name() == channel).map(|membership| Rc::clone(&membership.channel))
    }

    pub(super) fn is_subscribed(&self, channel: &str) -> bool {
        self.memberships.borrow().iter().any(|membership| membership.channel.name() == channel)
    }

    /// What others see of the connection in the channel, beside what its own token says.
    pub(super) fn chan_info_in(&self, channel: &str) -> Option<Arc<RawValue>> {
        let memberships = self.memberships.borrow();
        memberships.iter().find(|membership| membership.channel.name() == channel)?.chan_info.clone()
    }

    pub(super) fn membership_in(&self, channel: &str) -> channels::Membership {
        if self.is_subscribed(channel) { channels::Membership::Subscribed } else { channels::Membership::Outside }
    }

    /// Changes what is kept of the subscription to `channel`, if it is still there.
    pub(super) fn with_membership<T>(&self, channel: &HubChannel, change: impl FnOnce(&mut Membership) -> T) -> Option<T> {
        let mut memberships = self.memberships.borrow_mut();
        memberships.iter_mut().find(|membership| std::ptr::eq(&*membership.channel, channel)).map(change)
    }

    pub(super) fn stands(&self, channel: &HubChannel, standing: Standing) {
        if let Some(place) = self.with_membership(channel, |membership| membership.place) {
            channel.set_standing(place, standing);
        }
    }

    /// The channel keeps this subscriber elsewhere now.
    pub(in crate::socket) fn moved(&self, channel: &HubChannel, place: u32) {
        self.with_membership(channel, |membership| membership.place = place);
    }

    /// A publication of `channel` was missed.
    pub(in crate::socket) fn fell_behind(&self, channel: &HubChannel) {
        self.expel(channel, close::UNSUBSCRIBED_GAP, close::INSUFFICIENT_STATE);
    }

    /// Sets until when a subscription is good, and gives what the client is told of that.
    pub(super) fn expire_subscription(&self, channel: &HubChannel, expires_at: Option<OffsetDateTime>) -> Expiry {
        let ttl_s = self.ttl_s(expires_at);
        let deadline = self.deadline_of(ttl_s);
        self.with_membership(channel, |membership| membership.expires_at = deadline);
        self.expect_subscription_expiry(deadline);
        Expiry(ttl_s)
    }

    /// Ends the subscriptions whose time is over, and gives when the next is.
    pub(super) fn expire_subscriptions(&self, now: Tick) -> Tick {
        let over: Vec<_> = {
            let memberships = self.memberships.borrow();
            let is_over = |membership: &&Membership| membership.expires_at != NEVER && membership.expires_at <= now;
            memberships.iter().filter(is_over).map(|membership| Rc::clone(&membership.channel)).collect()
        };
        for channel in over {
            self.expel(&channel, close::UNSUBSCRIBED_EXPIRED, close::SUBSCRIPTION_EXPIRED);
        }
        self.memberships.borrow().iter().map(|membership| membership.expires_at).filter(|tick| *tick != NEVER).min().unwrap_or(NEVER)
    }

    /// Ends a subscription that cannot go on: with a push that makes the client subscribe again, or with the connection.
    pub(super) fn expel(&self, channel: &HubChannel, reason: UnsubscribeReason, close_reason: close::CloseReason) {
        if self.phase() == Phase::Closing {
            return;
        }
        match self.with_membership(channel, |membership| membership.side) {
            Some(Side::Client) => {
                self.leave(channel.name());
                self.send(reply::push(channel.name(), "unsubscribe", &Unsubscribed::from(reason)));
            }
            Some(Side::Server) => self.close(close_reason),
            None => {}
        }
    }
}
