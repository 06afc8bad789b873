//! `connect`: who holds the connection.

use super::{
    Connection, Phase,
    commands::{Failure, Outcome},
};
use crate::socket::{
    memory::Holding,
    protocol::{
        close,
        command::Connect,
        error::Refusal,
        reply::{self, Connected, Expiry},
    },
};
use shared::channels::{self, Action, Admission, Channel, ClientInfo, Position, Subject, TokenError, connections::Entry};
use std::{collections::HashMap, rc::Rc, sync::Arc};

/// What clients are told that they talk to.
pub(super) const VERSION: &str = concat!("Millrace ", env!("CARGO_PKG_VERSION"));

/// Who holds a connection, and how others see them.
#[derive(Debug)]
pub(in crate::socket) struct Holder {
    pub(in crate::socket) subject: Subject,
    pub(in crate::socket) info: ClientInfo,
    /// What waits for them, on all of their sockets of this thread.
    pub(in crate::socket) holding: Rc<Holding>,
}

/// A `connect` that outlives the message it came in.
#[derive(Debug)]
pub(super) struct OwnedConnect {
    token: String,
    /// Where the client stands in channels that it wants to go on in.
    positions: HashMap<String, Position>,
}

impl Connect<'_> {
    pub(super) fn into_owned(self) -> OwnedConnect {
        let recovering = self.subs.into_iter().filter(|(_, since)| since.recover);
        let positions = recovering.map(|(channel, since)| (channel.into_owned(), Position::new(since.offset, &since.epoch)));
        OwnedConnect { token: self.token.into_owned(), positions: positions.collect() }
    }
}

impl Connection {
    pub(super) async fn connect(self: Rc<Self>, id: u32, request: OwnedConnect) {
        self.phase.set(Phase::Connecting);
        if let Err(failure) = self.let_in(id, request).await {
            self.leave_all();
            self.leave_user();
            self.holder.take();
            if self.phase() == Phase::Connecting {
                self.phase.set(Phase::Opening);
            }
            self.fail(id, failure);
        }
    }

    async fn let_in(self: &Rc<Self>, id: u32, request: OwnedConnect) -> Outcome {
        let admission = channels::admit(&self.hub.state.accounts, Some(&request.token), self.address).await;
        let Admission { subject, subscriptions } = admission.map_err(refused_token)?;
        let expires_at = subject.expires_at;
        let client: Arc<str> = self.id.to_string().into();
        let info = ClientInfo {
            user: Arc::clone(&subject.user),
            client: Arc::clone(&client),
            conn_info: subject.conn_info.clone(),
            chan_info: None,
        };
        let holding = self.hub.memory.holding(&subject.user);
        *self.holder.borrow_mut() = Some(Rc::new(Holder { subject, info, holding }));
        self.enter_user().await?;
        let given = self.hear_given(subscriptions, request.positions).await?;
        if self.phase() != Phase::Connecting {
            return Ok(());
        }
        let begun = given
            .into_iter()
            .map(|given| Ok((given.name, self.begin_following(given.hearing)?, given.data)))
            .collect::<Result<Vec<_>, Failure>>()?;
        self.phase.set(Phase::Open);
        let expiry = Expiry(self.ttl_s(expires_at));
        let connected = Connected { client: &client, version: VERSION, expiry, ping: self.hub.rules.ping_s, pong: true };
        let subs: Vec<_> = begun
            .iter()
            .map(|(name, begun, data)| (name.as_str(), begun.answer(Expiry::default(), data.as_deref()), begun.missed()))
            .collect();
        self.send_answer(reply::connected(id, &connected, &subs)).inspect_err(|_| self.phase.set(Phase::Connecting))?;
        begun.iter().for_each(|(_, begun, _)| self.release(begun));
        self.expect_pings();
        self.expect_expiry(expiry.0);
        for (_, begun, _) in &begun {
            self.appear(&begun.channel).await;
        }
        Ok(())
    }

    /// Counts the connection among those of its user, where they may not have any number.
    async fn enter_user(&self) -> Outcome {
        let is_limited = self.hub.rules.connections_per_user > 0;
        let Some((user, client)) = self.user_and_client().filter(|_| is_limited) else { return Ok(()) };
        match self.hub.count_in(&user, &client).await? {
            Entry::Entered => Ok(()),
            Entry::Full => Err(Failure::Closed(close::CONNECTION_LIMIT)),
        }
    }

    pub(super) fn leave_user(&self) {
        if self.hub.rules.connections_per_user > 0
            && let Some((user, client)) = self.user_and_client()
        {
            self.hub.count_out(user, client);
        }
    }

    /// Who holds the connection, and its id; `None` for nobody in particular.
    pub(in crate::socket) fn user_and_client(&self) -> Option<(Arc<str>, Arc<str>)> {
        let holder = self.holder.borrow();
        let info = &holder.as_ref()?.info;
        (!info.user.is_empty()).then(|| (Arc::clone(&info.user), Arc::clone(&info.client)))
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
pub(super) fn refused_token(error: TokenError) -> Failure {
    match error {
        TokenError::Missing => Failure::Closed(close::BAD_REQUEST),
        TokenError::Invalid => Failure::Closed(close::INVALID_TOKEN),
        TokenError::Expired => Refusal::TOKEN_EXPIRED.into(),
        TokenError::Failed(error) => error.into(),
    }
}
