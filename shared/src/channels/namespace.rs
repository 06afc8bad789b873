//! The rules of one namespace: what its channels keep, what they show, and who may do what.

use super::{Action, ChannelName};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{fmt, sync::Arc, time::Duration};

/// Who may do something on the channels of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Who {
    const ALL: [Self; 6] = [Self::Anyone, Self::User, Self::Subscriber, Self::Token, Self::Operator, Self::Admin];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::User => "user",
            Self::Subscriber => "subscriber",
            Self::Token => "token",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::ALL.into_iter().find(|who| who.as_str() == word).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            D::Error::custom(format_args!("`{word}` is none of {words}"))
        })
    }
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
    /// The id of a track: those who may see it.
    Track,
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

/// As a table of `CONFIG_FILE` would say it.
impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offer = |offer| match offer {
            Offer::Off => "false",
            Offer::Asked => "true",
            Offer::Forced => "\"forced\"",
        };
        writeln!(f, "[channels.{}]", self.name)?;
        writeln!(f, "history_size = {}", self.history.map_or(0, |history| history.size))?;
        if let Some(history) = self.history {
            writeln!(f, "history_ttl_s = {}", history.ttl.as_secs())?;
        }
        writeln!(f, "recovery = {}", offer(self.recovery))?;
        writeln!(f, "presence = {}", self.presence)?;
        writeln!(f, "join_leave = {}", offer(self.join_leave))?;
        if self.audience == Audience::Personal {
            writeln!(f, "personal = true")?;
        }
        for (name, who) in [
            ("subscribe", self.subscribe),
            ("publish", self.publish),
            ("history", self.read_history),
            ("read_presence", self.read_presence),
        ] {
            writeln!(f, "{name} = \"{}\"", who.as_str())?;
        }
        writeln!(f, "publication_max_bytes = {}", self.publication_max_bytes)?;
        writeln!(f, "persist = {}", self.persist)
    }
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
