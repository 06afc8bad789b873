//! Where one connection of the link listens, and in which words: at a server that hears everything, or at the master of some of a
//! cluster's channels.

use crate::{
    Context, Result,
    redis::{Node, Shards, Wire},
};
use uuid::Uuid;

/// Names tried for a probe that is to be a certain master's: with one slot of 16,384 it is found within so many, all but surely.
const NAMES_MAX: usize = 200_000;

#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Any server: it hears orders, and every channel that is not of a shard.
    Anywhere,
    /// The channels of one master of a cluster.
    Shard { node: Node, shards: Shards },
}

impl Place {
    pub(super) async fn connect(&self, ctx: &Context) -> Result<Wire> {
        match self {
            Self::Anywhere => ctx.redis.wire().await,
            Self::Shard { node, shards } => shards.wire(node).await,
        }
    }

    /// A channel to send to oneself on, which is heard here.
    pub(super) fn probe_channel(&self, ctx: &Context) -> String {
        let channel = || ctx.keys.channels_probe(&Uuid::new_v4().simple().to_string());
        match self {
            Self::Anywhere => channel(),
            Self::Shard { node, shards } => {
                let mut names = std::iter::repeat_with(channel).take(NAMES_MAX);
                // A master that has no slots any more sends its probe elsewhere: it is then not heard, and the connection given up.
                names.find(|name| shards.master_of(name).is_none_or(|master| master == *node)).unwrap_or_else(channel)
            }
        }
    }

    pub(super) const fn hears_orders(&self) -> bool {
        matches!(self, Self::Anywhere)
    }

    pub(super) const fn subscribe_verb(&self) -> &'static str {
        match self {
            Self::Anywhere => "SUBSCRIBE",
            Self::Shard { .. } => "SSUBSCRIBE",
        }
    }

    pub(super) const fn unsubscribe_verb(&self) -> &'static str {
        match self {
            Self::Anywhere => "UNSUBSCRIBE",
            Self::Shard { .. } => "SUNSUBSCRIBE",
        }
    }

    pub(super) const fn publish_verb(&self) -> &'static str {
        match self {
            Self::Anywhere => "PUBLISH",
            Self::Shard { .. } => "SPUBLISH",
        }
    }

    /// Channels in one command: those of several slots are refused together.
    pub(super) const fn names_at_once(&self) -> usize {
        match self {
            Self::Anywhere => usize::MAX,
            Self::Shard { .. } => 1,
        }
    }

    /// The server does not have what it was taken to have.
    pub(super) fn doubt(&self) {
        match self {
            Self::Anywhere => {}
            Self::Shard { shards, .. } => shards.doubt(),
        }
    }
}
