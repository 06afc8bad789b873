//! `subscribe` and `unsubscribe`.
//!
//! A subscription begins without a gap and without a publication twice: publications are kept for it → the thread hears the
//! channel → the history is read → both are put together → the answer → what came since → it follows.

use super::{
    Connection,
    commands::{Failure, Outcome},
    connect::Holder,
    driver::Work,
    membership::{Joining, Left, Side},
};
use crate::socket::{
    hub::{Buffer, HubChannel, Standing},
    protocol::{
        close,
        command::{REJECT_UNRECOVERED, Subscribe},
        error::Refusal,
        reply::{self, Done, Expiry, Subscribed},
    },
};
use serde_json::value::RawValue;
use shared::{
    channels::{
        self, Action, Channel, EPOCH_BYTES_MAX, History, Offer, Position, Publication, SubscriptionGrant, TokenError,
        recovery::{self, Beginning},
    },
    telemetry::metrics::WS_RECOVERIES,
};
use std::{rc::Rc, sync::Arc};
use time::OffsetDateTime;

/// A `subscribe` that outlives the message it came in.
#[derive(Debug)]
pub(super) struct OwnedSubscribe {
    channel: String,
    token: String,
    wanted: Wanted,
    insists_on_recovery: bool,
}

/// What a client wants of a subscription.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) positioned: bool,
    pub(super) recoverable: bool,
    pub(super) join_leave: bool,
    /// From where it wants to go on.
    pub(super) since: Option<Position>,
}

/// A subscription that hears its channel, and has not begun.
#[derive(Debug)]
pub(super) struct Hearing {
    channel: Rc<HubChannel>,
    is_recoverable: bool,
    /// `None` where the client does not follow a position.
    follows: Option<Follows>,
}

#[derive(Debug)]
struct Follows {
    buffer: Rc<Buffer>,
    since: Option<Position>,
    history: History,
}

/// A subscription that has begun, before anything of it was sent.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) channel: Rc<HubChannel>,
    is_recoverable: bool,
    beginning: Option<Beginning>,
}

/// What a token or the rules of a channel grant.
#[derive(Debug, Default)]
struct Grant {
    chan_info: Option<Arc<RawValue>>,
    expires_at: Option<OffsetDateTime>,
}

impl Subscribe<'_> {
    pub(super) fn into_owned(self) -> OwnedSubscribe {
        let since = self.recover.then(|| Position::new(self.offset, &self.epoch));
        OwnedSubscribe {
            insists_on_recovery: self.flag & REJECT_UNRECOVERED != 0,
            channel: self.channel.into_owned(),
            token: self.token.into_owned(),
            wanted: Wanted { positioned: self.positioned, recoverable: self.recoverable, join_leave: self.join_leave, since },
        }
    }
}

impl Connection {
    pub(super) async fn subscribe(self: Rc<Self>, id: u32, request: OwnedSubscribe) {
        if let Err(failure) = self.try_subscribe(id, request).await {
            self.fail(id, failure);
        }
    }

    async fn try_subscribe(self: &Rc<Self>, id: u32, request: OwnedSubscribe) -> Outcome {
        let channel = self.hub.state.ctx.namespaces.resolve(&request.channel)?;
        if self.is_subscribed(&request.channel) {
            return Err(Refusal::ALREADY_SUBSCRIBED.into());
        }
        let grant = self.permit_subscribe(&channel, &request.token).await?;
        let hearing = self.hear(&channel, Side::Client, request.wanted, grant.chan_info).await?;
        let begun = self.begin_following(hearing)?;
        if request.insists_on_recovery && begun.is_unrecovered() {
            self.leave(begun.channel.name());
            return Err(Refusal::UNRECOVERABLE_POSITION.into());
        }
        let expiry = self.expire_subscription(&begun.channel, grant.expires_at);
        if let Err(failure) = self.send_answer(reply::subscribed(id, &begun.answer(expiry, None), begun.missed())) {
            self.leave(begun.channel.name());
            return Err(failure);
        }
        self.release(&begun);
        self.appear(&begun.channel).await;
        Ok(())
    }

    /// Joins the channel and reads how it stands. On failure nothing is left of it.
    pub(super) async fn hear(
        self: &Rc<Self>,
        channel: &Channel,
        side: Side,
        wanted: Wanted,
        chan_info: Option<Arc<RawValue>>,
    ) -> Result<Hearing, Failure> {
        if wanted.since.as_ref().is_some_and(|since| since.epoch.len() > EPOCH_BYTES_MAX) {
            return Err(Refusal::BAD_REQUEST.into());
        }
        let (recovery, join_leave) = (channel.namespace.recovery, channel.namespace.join_leave);
        let is_recoverable = is_given(recovery, wanted.recoverable || wanted.since.is_some());
        let buffer = (is_recoverable || is_given(recovery, wanted.positioned)).then(Rc::<Buffer>::default);
        let standing = buffer.as_ref().map_or(Standing::Listening, |buffer| Standing::Buffering(Rc::clone(buffer)));
        let hears_presence = is_given(join_leave, wanted.join_leave);
        let joined = self.join(channel, Joining { side, standing, hears_presence, chan_info })?;
        let since = wanted.since.filter(|_| is_recoverable);
        let standing = self.read_standing(&joined, since.as_ref(), buffer.is_some()).await;
        if self.with_membership(&joined, |membership| membership.side) != Some(side) {
            // The server has ended it meanwhile, and told the client.
            return Err(Refusal::PERMISSION_DENIED.into());
        }
        match standing {
            Ok(history) => {
                let follows = buffer.zip(history).map(|(buffer, history)| Follows { buffer, since, history });
                Ok(Hearing { channel: joined, is_recoverable, follows })
            }
            Err(failure) => {
                self.leave(joined.name());
                Err(failure)
            }
        }
    }

    /// How the channel stands once this thread hears it; `None` for who does not follow.
    async fn read_standing(&self, channel: &HubChannel, since: Option<&Position>, follows: bool) -> Result<Option<History>, Failure> {
        if !channel.listening().await {
            return Err(Refusal::INTERNAL.into());
        }
        if !follows {
            return Ok(None);
        }
        let (ctx, reader) = (&self.hub.state.ctx, self.holder().subject.reader());
        if let Some(since) = since {
            return Ok(Some(channels::missed(ctx, &reader, &channel.channel, since).await?));
        }
        let position = channels::position(ctx, &reader, &channel.channel).await?;
        Ok(Some(History { publications: Vec::new(), position }))
    }

    /// Puts together what was read and what came since. From here to [`release`](Self::release) nothing may be waited for.
    pub(super) fn begin_following(&self, hearing: Hearing) -> Result<Begun, Failure> {
        let Hearing { channel, is_recoverable, follows } = hearing;
        let Some(Follows { buffer, since, history }) = follows else {
            return Ok(Begun { channel, is_recoverable, beginning: None });
        };
        let beginning = buffer.take().and_then(|buffered| recovery::begin(since.as_ref(), history, buffered).ok());
        let Some(beginning) = beginning else { return Err(Failure::Closed(close::INSUFFICIENT_STATE)) };
        if let Some(recovered) = beginning.recovered {
            metrics::counter!(WS_RECOVERIES, "recovered" => if recovered { "yes" } else { "no" }).increment(1);
        }
        Ok(Begun { channel, is_recoverable, beginning: Some(beginning) })
    }

    /// Sends what came since the history was read, and lets the subscription follow.
    pub(super) fn release(&self, begun: &Begun) {
        let Some(beginning) = &begun.beginning else { return };
        for publication in &beginning.live {
            self.send(reply::publication(begun.channel.name(), publication));
        }
        for connection in begun.channel.observe(&beginning.reply.epoch, beginning.top) {
            connection.fell_behind(&begun.channel);
        }
        self.stands(&begun.channel, Standing::Following(beginning.top));
    }

    /// The answer comes when others see the client no more, and at once where nobody did.
    pub(super) fn unsubscribe(self: &Rc<Self>, id: u32, channel: &str) -> Option<Work> {
        // The client may not have heard yet that the subscription is over.
        match self.leave(channel) {
            Left::Unseen(granted) => {
                let connection = Rc::clone(self);
                Some(Box::pin(async move {
                    let _ = granted.await;
                    connection.answer(id, "unsubscribe", Ok(Done {}));
                }))
            }
            Left::WasNotIn | Left::Silently => self.done(id, "unsubscribe", Ok(Done {})),
        }
    }

    async fn permit_subscribe(&self, channel: &Channel, token: &str) -> Result<Grant, Failure> {
        if token.is_empty() {
            self.permit(channel, Action::Subscribe).await?;
            return Ok(Grant::default());
        }
        let holder = self.holder();
        let grant = self.grant_by_token(&holder, token)?;
        if grant.channel != channel.name {
            return Err(Refusal::PERMISSION_DENIED.into());
        }
        Ok(Grant { chan_info: grant.chan_info, expires_at: grant.expires_at })
    }

    pub(super) fn grant_by_token(&self, holder: &Holder, token: &str) -> Result<SubscriptionGrant, Failure> {
        let accounts = &self.hub.state.accounts;
        channels::verify_subscription_token(accounts, &holder.subject, &holder.info.client, token).map_err(|error| match error {
            TokenError::Missing | TokenError::Invalid => Refusal::PERMISSION_DENIED.into(),
            TokenError::Expired => Refusal::TOKEN_EXPIRED.into(),
            TokenError::Failed(error) => error.into(),
        })
    }
}

impl Hearing {
    /// Of the publications that the client missed.
    pub(super) fn missed_bytes(&self) -> usize {
        self.follows.iter().flat_map(|follows| &follows.history.publications).map(|publication| publication.body.len()).sum()
    }

    /// They are too much: the subscription begins at the top, and the client is told that.
    pub(super) fn forget_missed(&mut self) {
        if let Some(follows) = &mut self.follows {
            follows.history.publications = Vec::new();
        }
    }
}

/// Whether a client has what it asked for, or did not.
fn is_given(offer: Offer, is_asked: bool) -> bool {
    match offer {
        Offer::Off => false,
        Offer::Asked => is_asked,
        Offer::Forced => true,
    }
}

impl Begun {
    /// What the client is told.
    pub(super) fn answer<'a>(&'a self, expiry: Expiry, data: Option<&'a RawValue>) -> Subscribed<'a> {
        let plain = Subscribed { data, expiry, ..Subscribed::default() };
        let Some(beginning) = &self.beginning else { return plain };
        Subscribed {
            recoverable: self.is_recoverable,
            positioned: true,
            epoch: &beginning.reply.epoch,
            offset: beginning.reply.offset,
            was_recovering: beginning.recovered.is_some(),
            recovered: beginning.recovered == Some(true),
            ..plain
        }
    }

    /// It asked for what it missed, and cannot have it.
    fn is_unrecovered(&self) -> bool {
        self.beginning.as_ref().is_some_and(|beginning| beginning.recovered == Some(false))
    }

    /// What it missed and gets with that.
    pub(super) fn missed(&self) -> &[Publication] {
        self.beginning.as_ref().map_or(&[], |beginning| &beginning.missed)
    }
}
