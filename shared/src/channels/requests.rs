//! What is asked of channels without a connection: the operations behind REST, the server API and jobs. A socket has its own way
//! to the same ones.

use super::{
    Action, Authority, Channel, ChannelError, ClientInfo, Filter, History, Membership, NewPublication, Position, Reader, Subject, history,
    may,
    persist::{ArchiveCursor, Archived, archive},
    presence::{self, PresenceList, PresenceStats},
    publish,
};
use crate::{
    Caller, Context, Error, Result, Scope,
    accounts::Proof,
    ids::UserId,
    page::{Page, PageRequest},
};
use futures_util::{StreamExt as _, stream};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Channels that one broadcast names at most.
pub const BROADCAST_CHANNELS_MAX: usize = 1_000;
/// Of what a broadcast publishes on all its channels together, so much costs as much as a request of its own.
pub const BROADCAST_BYTES_PER_TOKEN: usize = 1 << 20;
/// Publications of one broadcast under way at the same time.
pub(super) const PUBLISHING_AT_ONCE: usize = 64;

/// Bytes of what a user's broadcast publishes on all its channels together, unless they are more than a bulk may have: one small body
/// would fill Redis.
pub fn broadcast_bytes(ctx: &Context, n_channels: usize, data: &RawValue, pointer: &str) -> Result<usize> {
    let (n_bytes, max) = (n_channels * data.get().len(), ctx.settings().max_bulk_bytes.0);
    if n_bytes > max {
        let detail = format!("{n_channels} channels get {n_bytes} bytes together, and may get {max} (`MAX_BULK_BYTES`)");
        return Err(Error::invalid(pointer, "too_large", detail));
    }
    Ok(n_bytes)
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Requester<'a> {
    /// An account of ours; the rules of the channel's namespace hold.
    Account(&'a Caller),
    /// Another backend, by the key it shares with us: it is trusted with every channel, and writes in nobody's name.
    Backend,
}

impl Requester<'_> {
    /// Refuses what the requester may not do. Who may subscribe may do what subscribers may: they need no connection to ask.
    pub async fn require(self, ctx: &Context, channel: &Channel, action: Action) -> Result<(), ChannelError> {
        let Self::Account(caller) = self else { return Ok(()) };
        caller.require(scope_of(action))?;
        let subject = subject(*caller);
        match may(ctx, &subject, channel, action, Membership::Outside).await {
            Err(ChannelError::PermissionDenied) => {}
            answer => return answer,
        }
        // What its user may subscribe to: a key that is to publish alone has no scope for reading.
        let reader = self::subject(Caller { scopes: caller.scopes.with(Scope::ChannelsRead), ..*caller });
        may(ctx, &reader, channel, Action::Subscribe, Membership::Outside).await?;
        may(ctx, &subject, channel, action, Membership::Subscribed).await
    }

    /// Who stands beside what is published: no connection, but the user.
    fn info(self) -> Option<ClientInfo> {
        match self {
            Self::Account(caller) => Some(without_connection(caller.user_id)),
            Self::Backend => None,
        }
    }

    /// In whose turn it reads: the same as the user's connections.
    fn reader(self) -> Reader {
        match self {
            Self::Account(caller) => Reader::User(caller.user_id.to_string().into()),
            Self::Backend => Reader::Backend,
        }
    }

    /// An idempotency key in the requester's own space: nobody's key keeps another's publication back.
    fn own_key(self, key: &str) -> String {
        match self {
            Self::Account(caller) => {
                let hash = Sha256::new().chain_update(caller.user_id.0.as_bytes()).chain_update(key).finalize();
                hash.iter().fold(String::with_capacity(64), |mut text, byte| {
                    write!(text, "{byte:02x}").expect("a string takes all that is written");
                    text
                })
            }
            Self::Backend => key.to_owned(),
        }
    }
}

fn scope_of(action: Action) -> Scope {
    match action {
        Action::Publish => Scope::ChannelsPublish,
        Action::Subscribe | Action::ReadHistory | Action::ReadPresence => Scope::ChannelsRead,
    }
}

/// Of a request: whether its credential was revoked was looked up when it came.
fn subject(caller: Caller) -> Subject {
    let proof = Proof { caller, version: 0, ends_at: None };
    Subject { user: caller.user_id.to_string().into(), authority: Authority::Account(proof), ..Subject::anonymous() }
}

/// A user who publishes, and is not connected for it.
pub(super) fn without_connection(user_id: UserId) -> ClientInfo {
    ClientInfo { user: user_id.to_string().into(), client: "".into(), conn_info: None, chan_info: None }
}

/// Publishes on one channel.
pub async fn publish_for(
    ctx: &Context,
    requester: Requester<'_>,
    channel: &Channel,
    new: &NewPublication<'_>,
) -> Result<Position, ChannelError> {
    requester.require(ctx, channel, Action::Publish).await?;
    let (info, key) = (requester.info(), new.idempotency_key.map(|key| requester.own_key(key)));
    publish(ctx, channel, &NewPublication { info: info.as_ref(), idempotency_key: key.as_deref(), ..*new }).await
}

/// Publishes the same on many channels; answers for each in order.
pub async fn broadcast_for(
    ctx: &Context,
    requester: Requester<'_>,
    channels: &[String],
    new: &NewPublication<'_>,
) -> Vec<Result<Position, ChannelError>> {
    let each = stream::iter(channels).map(async |name| {
        let channel = ctx.namespaces.resolve(name)?;
        publish_for(ctx, requester, &channel, new).await
    });
    each.buffered(PUBLISHING_AT_ONCE).collect().await
}

pub async fn history_for(ctx: &Context, requester: Requester<'_>, channel: &Channel, filter: &Filter) -> Result<History, ChannelError> {
    requester.require(ctx, channel, Action::ReadHistory).await?;
    history(ctx, &requester.reader(), channel, filter).await
}

/// What was saved of a persisted channel, whatever became of Redis since.
pub async fn archive_for(
    ctx: &Context,
    requester: Requester<'_>,
    channel: &Channel,
    request: &PageRequest<ArchiveCursor>,
) -> Result<Page<Archived>, ChannelError> {
    requester.require(ctx, channel, Action::ReadHistory).await?;
    archive(ctx, &requester.reader(), channel, request).await
}

/// Who is subscribed now.
pub async fn presence_for(ctx: &Context, requester: Requester<'_>, channel: &Channel) -> Result<PresenceList, ChannelError> {
    requester.require(ctx, channel, Action::ReadPresence).await?;
    presence::list(ctx, &requester.reader(), channel).await
}

pub async fn presence_stats_for(ctx: &Context, requester: Requester<'_>, channel: &Channel) -> Result<PresenceStats, ChannelError> {
    requester.require(ctx, channel, Action::ReadPresence).await?;
    presence::stats(ctx, channel).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Role, caller::Credential, ids::SessionId};

    #[test]
    fn requests_and_connections_of_a_user_read_in_the_same_turns() {
        let caller = Caller::new(UserId::new(), Role::User, Role::User.scopes(), Credential::Session(SessionId::new()));
        assert_eq!(Requester::Account(&caller).reader(), subject(caller).reader());
        assert_ne!(Requester::Backend.reader(), Subject::anonymous().reader());
    }
}
