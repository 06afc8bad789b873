//! `connect`: who holds the connection.

use super::{
    Connection, Phase,
    commands::{Failure, Outcome},
};
use crate::socket::protocol::{
    close,
    command::Connect,
    reply::{self, Connected, Expiry},
};
use shared::channels::{self, ChannelError, ClientInfo, Subject, TokenError};
use std::{collections::BTreeMap, rc::Rc, sync::Arc};

/// What clients are told that they talk to.
pub(super) const VERSION: &str = concat!("Millrace ", env!("CARGO_PKG_VERSION"));

/// Who holds a connection, and how others see them.
#[derive(Debug)]
pub(in crate::socket) struct Holder {
    pub(in crate::socket) subject: Subject,
    pub(in crate::socket) info: ClientInfo,
}

/// A `connect` that outlives the message it came in.
#[derive(Debug)]
pub(super) struct OwnedConnect {
    token: String,
}

impl Connect<'_> {
    pub(super) fn into_owned(self) -> OwnedConnect {
        OwnedConnect { token: self.token.into_owned() }
    }
}

impl Connection {
    pub(super) async fn connect(self: Rc<Self>, id: u32, request: OwnedConnect) {
        self.phase.set(Phase::Connecting);
        if let Err(failure) = self.let_in(id, &request).await {
            if self.phase() == Phase::Connecting {
                self.phase.set(Phase::Opening);
            }
            self.fail(id, failure);
        }
    }

    async fn let_in(self: &Rc<Self>, id: u32, request: &OwnedConnect) -> Outcome {
        let subject = self.authenticate(&request.token).await?;
        let client = self.id.to_string();
        let expiry = Expiry(self.ttl_s(subject.expires_at));
        let info = ClientInfo {
            user: Arc::clone(&subject.user),
            client: client.as_str().into(),
            conn_info: subject.conn_info.clone(),
            chan_info: None,
        };
        *self.holder.borrow_mut() = Some(Rc::new(Holder { subject, info }));
        if self.phase() != Phase::Connecting {
            return Ok(());
        }
        self.phase.set(Phase::Open);
        let connected =
            Connected { client: &client, version: VERSION, expiry, ping: self.hub.rules.ping_s, pong: true, subs: BTreeMap::new() };
        self.send(reply::success(id, "connect", &connected));
        self.expect_pings();
        self.expect_expiry(expiry.0);
        Ok(())
    }

    async fn authenticate(&self, token: &str) -> Result<Subject, Failure> {
        match channels::admit(&self.hub.state.accounts, Some(token)).await {
            Ok(admission) => Ok(admission.subject),
            Err(TokenError::Missing) => Err(Failure::Closed(close::BAD_REQUEST)),
            Err(TokenError::Invalid) => Err(Failure::Closed(close::INVALID_TOKEN)),
            Err(TokenError::Expired) => Err(ChannelError::TokenExpired.into()),
            Err(TokenError::Failed(error)) => Err(error.into()),
        }
    }

    /// Seconds until `expires_at`, at least one.
    pub(super) fn ttl_s(&self, expires_at: Option<time::OffsetDateTime>) -> Option<u32> {
        let left = expires_at? - self.hub.state.ctx.clock.now();
        Some(u32::try_from(left.whole_seconds().max(1)).unwrap_or(u32::MAX))
    }

    /// Who holds the connection; there is somebody from `connect` on.
    pub(super) fn holder(&self) -> Rc<Holder> {
        Rc::clone(self.holder.borrow().as_ref().expect("commands come after connect"))
    }
}
