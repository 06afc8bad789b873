//! `refresh` and `sub_refresh`: a fresh token in the place of one that ends.

use super::{
    Connection, Phase,
    commands::Failure,
    connect::{Holder, VERSION, refused_token},
};
use crate::socket::protocol::{
    close,
    command::SubRefresh,
    error::Refusal,
    reply::{Expiry, Refreshed},
};
use shared::channels;
use std::rc::Rc;
use time::OffsetDateTime;

/// A `sub_refresh` that outlives the message it came in.
#[derive(Debug)]
pub(super) struct OwnedSubRefresh {
    channel: String,
    token: String,
}

impl SubRefresh<'_> {
    pub(super) fn into_owned(self) -> OwnedSubRefresh {
        OwnedSubRefresh { channel: self.channel.into_owned(), token: self.token.into_owned() }
    }
}

impl Connection {
    pub(super) async fn refresh(self: Rc<Self>, id: u32, token: String) {
        let outcome = self.take_fresh_token(&token).await;
        self.answer(id, "refresh", outcome);
    }

    async fn take_fresh_token(&self, token: &str) -> Result<Refreshed, Failure> {
        if token.is_empty() {
            return Err(Failure::Closed(close::BAD_REQUEST));
        }
        let admission = channels::admit(&self.hub.state.accounts, Some(token), self.address).await.map_err(refused_token)?;
        let before = self.holder();
        // A connection never changes hands: what it is subscribed to was permitted to somebody else.
        if admission.subject.user != before.subject.user {
            return Err(Failure::Closed(close::INVALID_TOKEN));
        }
        let expiry = Expiry(self.ttl_s(admission.subject.expires_at));
        let info = channels::ClientInfo { conn_info: admission.subject.conn_info.clone(), ..before.info.clone() };
        let holding = Rc::clone(&before.holding);
        *self.holder.borrow_mut() = Some(Rc::new(Holder { subject: admission.subject, info, holding }));
        self.expect_expiry(expiry.0);
        Ok(Refreshed { client: self.id, version: VERSION, expiry })
    }

    pub(super) fn sub_refresh(&self, request: &OwnedSubRefresh) -> Result<Expiry, Failure> {
        let grant = self.grant_by_token(&self.holder(), &request.token)?;
        // Some clients leave the channel to the token.
        if !request.channel.is_empty() && request.channel != grant.channel.as_str() {
            return Err(Refusal::PERMISSION_DENIED.into());
        }
        let channel = self.joined(grant.channel.as_str()).ok_or(Refusal::PERMISSION_DENIED)?;
        Ok(self.expire_subscription(&channel, grant.expires_at))
    }

    /// An order: the connection is good until then, or for ever.
    pub(in crate::socket) fn refreshed_by_server(&self, expires_at: Option<i64>) {
        if self.phase() == Phase::Open {
            let expires_at = expires_at.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
            self.expect_expiry(self.ttl_s(expires_at));
        }
    }

    /// Ends the connection of a holder who was revoked. Whose session goes on comes back with a new token.
    pub(in crate::socket) async fn revoked(self: Rc<Self>) {
        let Some(holder) = self.holder.borrow().clone() else { return };
        // Who cannot be looked up now is found out about when they come back.
        let goes_on = holder.subject.goes_on(&self.hub.state.accounts).await.unwrap_or(true);
        self.close(if goes_on { close::EXPIRED } else { close::FORCE_DISCONNECT });
    }

    /// Whether what its holder proved has been revoked since.
    pub(in crate::socket) fn is_revoked(&self) -> bool {
        let holder = self.holder.borrow();
        holder.as_ref().is_some_and(|holder| holder.subject.is_revoked(&self.hub.state.accounts))
    }
}
