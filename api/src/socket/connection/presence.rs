//! `presence` and `presence_stats`, and being present oneself.

use super::{Connection, commands::Failure};
use crate::socket::{
    hub::HubChannel,
    protocol::reply::{PresenceCounted, PresenceRead},
};
use shared::channels::{Action, Channel, ClientInfo, presence};
use std::{rc::Rc, sync::Arc};

impl Connection {
    pub(super) async fn read_presence(self: Rc<Self>, id: u32, channel: String) {
        let outcome = self.list_present(&channel).await;
        self.answer(id, "presence", outcome);
    }

    pub(super) async fn count_presence(self: Rc<Self>, id: u32, channel: String) {
        let outcome = self.count_present(&channel).await;
        self.answer(id, "presence_stats", outcome);
    }

    async fn list_present(&self, channel: &str) -> Result<PresenceRead, Failure> {
        let channel = self.readable_presence(channel).await?;
        let reader = self.holder().subject.reader();
        Ok(PresenceRead { presence: presence::list(&self.hub.state.ctx, &reader, &channel).await? })
    }

    async fn count_present(&self, channel: &str) -> Result<PresenceCounted, Failure> {
        let channel = self.readable_presence(channel).await?;
        let presence::PresenceStats { num_clients, num_users } = presence::stats(&self.hub.state.ctx, &channel).await?;
        Ok(PresenceCounted { num_clients, num_users })
    }

    async fn readable_presence(&self, channel: &str) -> Result<Channel, Failure> {
        let channel = self.hub.state.ctx.namespaces.resolve(channel)?;
        self.permit(&channel, Action::ReadPresence).await?;
        Ok(channel)
    }

    /// Lets others see the connection in the channel.
    pub(super) async fn appear(&self, channel: &HubChannel) {
        if !channel.channel.namespace.presence {
            return;
        }
        // First, so that whoever ends the subscription meanwhile takes it out again.
        if self.with_membership(channel, |membership| membership.is_present = true).is_none() {
            return;
        }
        // Ends in any case: the hub's task outlives its connections.
        let _ = self.hub.appears(&channel.channel, self.info_in(channel.name())).await;
    }

    pub(in crate::socket) fn is_present_in(&self, channel: &HubChannel) -> bool {
        self.with_membership(channel, |membership| membership.is_present) == Some(true)
    }

    /// How others see the connection in the channel, if they do.
    pub(in crate::socket) fn present_info(&self, channel: &HubChannel) -> Option<ClientInfo> {
        self.is_present_in(channel).then(|| self.info_in(channel.name()))
    }

    /// Its id as others see it, once somebody holds it.
    pub(in crate::socket) fn client(&self) -> Option<Arc<str>> {
        self.holder.borrow().as_ref().map(|holder| Arc::clone(&holder.info.client))
    }
}
