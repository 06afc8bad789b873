//! Who holds a connection, and what they proved.

use super::{ChannelName, Reader};
use crate::{
    Role,
    accounts::{Accounts, Proof},
};
use serde_json::value::RawValue;
use std::sync::Arc;
use time::OffsetDateTime;

/// The holder of a connection. Cheap to clone: a connection keeps one for its life.
#[derive(Debug, Clone)]
pub struct Subject {
    /// `""` for an anonymous one.
    pub user: Arc<str>,
    pub authority: Authority,
    /// JSON from the token that others see in presence, joins and publications.
    pub conn_info: Option<Arc<RawValue>>,
    /// Then the connection needs a fresh token; `None` never.
    pub expires_at: Option<OffsetDateTime>,
}

/// By what a subject may do what it does.
#[derive(Debug, Clone)]
pub enum Authority {
    /// No token, where that is allowed.
    Anonymous,
    /// An account of ours: role and scopes count.
    Account(Proof),
    /// A token that another backend signed with the key we share; it may name channels and rights of its own.
    Token(Arc<[Capability]>),
    /// `REALTIME_INSECURE`: everything is allowed.
    Insecure,
}

impl Subject {
    pub fn anonymous() -> Self {
        Self { user: "".into(), authority: Authority::Anonymous, conn_info: None, expires_at: None }
    }

    /// Whether it may go on: an account's session, key and user may have been revoked. Looks in memory alone; that the token has
    /// expired is for [`expires_at`](Self::expires_at) to say, since a client may refresh it in time.
    pub fn is_revoked(&self, accounts: &Accounts) -> bool {
        match &self.authority {
            Authority::Account(proof) => accounts.is_revoked(proof),
            Authority::Anonymous | Authority::Token(_) | Authority::Insecure => false,
        }
    }

    /// Whether a holder who was revoked may come back with a new token.
    pub async fn goes_on(&self, accounts: &Accounts) -> crate::Result<bool> {
        match &self.authority {
            Authority::Account(proof) => accounts.goes_on(proof).await,
            Authority::Anonymous | Authority::Token(_) | Authority::Insecure => Ok(true),
        }
    }

    /// In whose turn its connections read.
    pub fn reader(&self) -> Reader {
        Reader::User(Arc::clone(&self.user))
    }

    /// The role of an account of ours.
    pub fn role(&self) -> Option<Role> {
        match &self.authority {
            Authority::Account(proof) => Some(proof.caller.role),
            Authority::Anonymous | Authority::Token(_) | Authority::Insecure => None,
        }
    }
}

/// What a token allows beside the rules of namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    pub channels: Vec<Pattern>,
    pub allow: Vec<Action>,
}

/// Which channels a capability is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    Exact(String),
    /// `*` stands for any text.
    Wildcard(String),
}

/// What a subject may want to do on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Subscribe,
    Publish,
    ReadHistory,
    ReadPresence,
}

/// Whether the subject's connection is subscribed to the channel it asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    Subscribed,
    Outside,
}

/// A subject that may connect, and the channels that its token subscribes it to.
#[derive(Debug, Clone)]
pub struct Admission {
    pub subject: Subject,
    pub subscriptions: Vec<ServerSubscription>,
}

/// A subscription that the server makes for a connection.
#[derive(Debug, Clone)]
pub struct ServerSubscription {
    pub channel: ChannelName,
    /// JSON that others see of the subscriber in this channel.
    pub chan_info: Option<Arc<RawValue>>,
    /// JSON for the client, sent with the subscription.
    pub data: Option<Arc<RawValue>>,
}

/// What a subscription token grants.
#[derive(Debug, Clone)]
pub struct SubscriptionGrant {
    pub channel: ChannelName,
    pub chan_info: Option<Arc<RawValue>>,
    /// Then the subscription needs a fresh token; `None` never.
    pub expires_at: Option<OffsetDateTime>,
}

/// Why a token proves nothing.
#[derive(Debug)]
pub enum TokenError {
    /// There is none, and one is required.
    Missing,
    Invalid,
    Expired,
    /// It cannot be told at the moment.
    Failed(crate::Error),
}
