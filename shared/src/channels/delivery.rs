//! What comes over pub/sub: publications, joins and leaves for channels, orders for connections, and the state of the link itself.

use super::{ChannelName, Publication};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

/// One thing that the link has for its process, in the order in which Redis sent it.
#[derive(Debug)]
pub enum Delivery {
    Publication {
        channel: ChannelName,
        /// `""` when the publication has no offset.
        epoch: Arc<str>,
        publication: Publication,
    },
    /// JSON of the client's info on one line.
    Join {
        channel: ChannelName,
        info: Bytes,
    },
    Leave {
        channel: ChannelName,
        info: Bytes,
    },
    Control(Box<Control>),
    /// The connection to Redis went: what is published from here to `Restored` may be missed.
    Lost,
    /// Every channel is subscribed again: compare positions now.
    Restored,
}

/// An order for connections, wherever they are held. Every process hears all of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    Disconnect {
        to: Addressee,
        code: u32,
        reason: String,
        /// Connections that stay.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        except: Vec<String>,
    },
    Subscribe {
        to: Addressee,
        channel: ChannelName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chan_info: Option<Arc<RawValue>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<Arc<RawValue>>,
    },
    Unsubscribe {
        to: Addressee,
        channel: ChannelName,
        code: u32,
        reason: String,
    },
    Refresh {
        to: Addressee,
        /// The connection ends as expired.
        #[serde(default)]
        expired: bool,
        /// Unix time in seconds until which it is good now; `None` for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<i64>,
    },
}

/// Whose connections an order is for: all of a user, or one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressee {
    /// `None` where the client alone is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}
