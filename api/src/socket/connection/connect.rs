//! `connect`: who holds the connection.

use super::{
    Connection, Phase,
    commands::{Failure, Outcome},
};
use crate::socket::protocol::{
    close,
    command::Connect,
    error::Refusal,
    reply::{self, Connected, Expiry},
};
use shared::channels::{self, Action, Admission, Channel, ClientInfo, Subject, TokenError};
use std::{rc::Rc, sync::Arc};

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
        let admission = channels::admit(&self.hub.state.accounts, Some(&request.token)).await;
        let Admission { subject, .. } = admission.map_err(refused_token)?;
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
        let connected = Connected { client: &client, version: VERSION, expiry, ping: self.hub.rules.ping_s, pong: true };
        self.send(reply::connected(id, &connected, &[]));
        self.expect_pings();
        self.expect_expiry(expiry.0);
        Ok(())
    }

    /// Seconds until `expires_at`, at least one.
    pub(super) fn ttl_s(&self, expires_at: Option<time::OffsetDateTime>) -> Option<u32> {
        let left = expires_at? - self.hub.state.ctx.clock.now();
        Some(u32::try_from(left.whole_seconds().max(1)).unwrap_or(u32::MAX))
    }

    /// Refuses what the holder may not do on `channel`.
    pub(super) async fn permit(&self, channel: &Channel, action: Action) -> Outcome {
        let membership = self.membership_in(channel.name.as_str());
        Ok(channels::may(&self.hub.state.ctx, &self.holder().subject, channel, action, membership).await?)
    }

    /// Who holds the connection; there is somebody from `connect` on.
    pub(super) fn holder(&self) -> Rc<Holder> {
        Rc::clone(self.holder.borrow().as_ref().expect("commands come after connect"))
    }
}

/// A client with an old token is asked for a fresh one; one that proves nothing should not come back as it is.
fn refused_token(error: TokenError) -> Failure {
    match error {
        TokenError::Missing => Failure::Closed(close::BAD_REQUEST),
        TokenError::Invalid => Failure::Closed(close::INVALID_TOKEN),
        TokenError::Expired => Refusal::TOKEN_EXPIRED.into(),
        TokenError::Failed(error) => error.into(),
    }
}
