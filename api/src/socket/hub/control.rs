//! Orders for connections, from wherever in the platform they come; and what the accounts have to say.

use super::Hub;
use crate::socket::{connection::Connection, protocol::close};
use actix_web::rt;
use futures_util::future::join_all;
use shared::channels::{Addressee, Control, ServerSubscription};
use std::rc::Rc;

impl Hub {
    pub(super) fn obey(&self, control: &Control) {
        match control {
            Control::Disconnect { to, code, reason, except } => {
                let code = u16::try_from(*code).ok().filter(|code| (3_000..=4_999).contains(code)).unwrap_or(close::FORCE_DISCONNECT.code);
                for connection in self.addressed(to).into_iter().filter(|connection| !except.contains(&connection.id.to_string())) {
                    connection.close_with(code, reason);
                }
            }
            Control::Subscribe { to, channel, chan_info, data } => {
                let subscription = ServerSubscription { channel: channel.clone(), chan_info: chan_info.clone(), data: data.clone() };
                for connection in self.addressed(to) {
                    rt::spawn(connection.subscribed_by_server(subscription.clone()));
                }
            }
            Control::Unsubscribe { to, channel, code, reason } => {
                for connection in self.addressed(to) {
                    connection.unsubscribed_by_server(channel.as_str(), *code, reason);
                }
            }
            Control::Refresh { to, expired: true, .. } => {
                self.addressed(to).iter().for_each(|connection| connection.close(close::EXPIRED));
            }
            Control::Refresh { to, expired: false, expires_at } => {
                for connection in self.addressed(to) {
                    connection.refreshed_by_server(*expires_at);
                }
            }
        }
    }

    fn addressed(&self, to: &Addressee) -> Vec<Rc<Connection>> {
        self.connections.borrow().iter().filter(|connection| connection.is_addressed(to)).map(Rc::clone).collect()
    }

    /// Closes the connections whose session, key or user is revoked, whenever something is, for ever.
    pub(super) async fn hear_revocations(self: Rc<Self>) {
        let mut news = self.state.accounts.revocation_news();
        while news.changed().await.is_ok() {
            let revoked: Vec<_> = self.connections.borrow().iter().filter(|connection| connection.is_revoked()).map(Rc::clone).collect();
            join_all(revoked.into_iter().map(Connection::revoked)).await;
        }
    }
}
