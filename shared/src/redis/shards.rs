//! A cluster as those see it who listen to channels: each is published and heard at the master of its name's slot alone.

use super::{Redis, Servers, Topology, address::Node, follow::Followed, wire::Wire};
use crate::Result;

/// Who has which channels now.
#[derive(Clone)]
pub(crate) struct Shards(Followed);

impl std::fmt::Debug for Shards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shards").finish_non_exhaustive()
    }
}

impl Redis {
    /// `None` where one server has all channels.
    pub(crate) fn shards(&self) -> Option<Shards> {
        match &self.servers {
            Servers::Followed { followed, topology: Topology::Cluster } => Some(Shards(followed.clone())),
            Servers::Followed { topology: Topology::Server | Topology::Sentinel, .. } | Servers::One(..) => None,
        }
    }

    /// The command that publishes on a channel which is heard at its own shard. Without shards all are heard anywhere.
    pub(crate) fn publish_verb(&self) -> &'static str {
        if self.shards().is_some() { "SPUBLISH" } else { "PUBLISH" }
    }

    /// What the channels that somebody listens to are asked for by.
    pub(crate) fn list_verb(&self) -> &'static str {
        if self.shards().is_some() { "SHARDCHANNELS" } else { "CHANNELS" }
    }
}

impl Shards {
    /// `None` while a slot is nobody's.
    pub(crate) fn master_of(&self, channel: &str) -> Option<Node> {
        self.0.known()?.master_of(channel.as_bytes()).cloned()
    }

    pub(crate) fn is_master(&self, node: &Node) -> bool {
        self.0.known().is_some_and(|view| view.masters.contains(node))
    }

    /// Returns once somebody has told who has what.
    pub(crate) async fn found(&mut self) {
        self.0.found().await;
    }

    /// Returns when something has changed since it last did.
    pub(crate) async fn changed(&mut self) {
        self.0.changed().await;
    }

    /// Has somebody look who has which slots.
    pub(crate) fn doubt(&self) {
        self.0.doubt();
    }

    /// A bare connection to one master.
    pub(crate) async fn wire(&self, node: &Node) -> Result<Wire> {
        self.0.wire(node).await
    }
}
