//! The rules of one namespace: what its channels keep, what they show, and who may do what.

use super::{Action, ChannelName};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// Who may do something on the channels of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Anonymous connections too.
    Anyone,
    /// Everybody who proved who they are.
    User,
    /// Those whose connection is subscribed to the channel.
    Subscriber,
    /// Holders of a token that names the channel.
    Token,
    /// Operators and admins.
    Operator,
    Admin,
}

/// Whether a feature is there for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    Off,
    /// For clients that ask for it.
    Asked,
    /// For every client.
    Forced,
}

/// What the text after the `:` of a channel's name stands for, and so who may see the channel at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Nothing in particular.
    Open,
    /// `#<user>[,<user>…]`: these users alone.
    Personal,
    /// The id of a job: those who may see it.
    Job,
    /// The name of a queue: those who may see it.
    Queue,
}

/// What is kept of a channel's publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRules {
    /// Newest publications that are kept.
    pub size: u32,
    /// For so long after the last one.
    pub ttl: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// `""` for channels without `:`.
    pub name: Arc<str>,
    pub history: Option<HistoryRules>,
    /// Whether clients are told of gaps, and may ask for what they missed. Needs history.
    pub recovery: Offer,
    pub presence: bool,
    pub join_leave: Offer,
    pub audience: Audience,
    pub subscribe: Who,
    pub publish: Who,
    pub read_history: Who,
    pub read_presence: Who,
    /// Largest publication, data and tags together.
    pub publication_max_bytes: usize,
    /// Whether publications are also kept in PostgreSQL. Needs history.
    pub persist: bool,
}

impl Namespace {
    pub fn who_may(&self, action: Action) -> Who {
        match action {
            Action::Subscribe => self.subscribe,
            Action::Publish => self.publish,
            Action::ReadHistory => self.read_history,
            Action::ReadPresence => self.read_presence,
        }
    }
}

/// A channel with its rules: resolved once, then carried.
#[derive(Debug, Clone)]
pub struct Channel {
    pub name: ChannelName,
    pub namespace: Arc<Namespace>,
}

impl Channel {
    /// What stands behind the namespace.
    pub fn rest(&self) -> &str {
        self.name.parts().map_or(self.name.as_str(), |(_, rest)| rest)
    }

    /// The users that a personal channel names.
    pub fn named_users(&self) -> impl Iterator<Item = &str> {
        self.rest().split_once('#').map_or("", |(_, users)| users).split(',').filter(|user| !user.is_empty())
    }
}
