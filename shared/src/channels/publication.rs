//! What is published: as it comes in, as it is kept, and by whom.

use super::ChannelError;
use crate::jobs::raw_json;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// A publication as it is kept and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// 0 when the channel keeps no history, or this was published past it.
    pub offset: u64,
    pub published_at_ms: i64,
    /// A JSON object on one line in the shape of the protocol, without its offset: `{"data":…,"info":{…},"tags":{…}}`. It
    /// always starts with `{"data":`, so that a writer puts `{"offset":8,` in the place of its first byte.
    pub body: Bytes,
}

/// Longer than any client goes on repeating.
const KEY_KEPT_FOR: Duration = Duration::from_mins(5);

/// JSON that every subscriber can read: not nested so deep that parsers give up, and without what no text or double can hold. It
/// is looked over once, however many channels it goes to.
#[derive(Debug, Clone, Copy)]
pub struct PublicationData<'a>(&'a RawValue);

impl<'a> PublicationData<'a> {
    /// Its size is the namespace's business.
    pub fn check(data: &'a RawValue) -> Result<Self, ChannelError> {
        raw_json::check(data.get(), "data", usize::MAX).map_err(ChannelError::UnfitData)?;
        Ok(Self(data))
    }

    pub fn get(self) -> &'a str {
        self.0.get()
    }
}

/// A publication to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewPublication<'a> {
    pub data: PublicationData<'a>,
    /// Who publishes; none for a server.
    pub info: Option<&'a ClientInfo>,
    pub tags: Option<&'a BTreeMap<String, String>>,
    /// The same key, while it is remembered, answers with the first publication's position and publishes nothing.
    pub idempotency_key: Option<&'a str>,
    /// Sends it to those who listen now and keeps it nowhere: it has no offset.
    pub skip_history: bool,
    /// For so long `idempotency_key` is remembered.
    pub key_kept_for: Duration,
}

impl<'a> NewPublication<'a> {
    pub fn new(data: &'a RawValue) -> Result<Self, ChannelError> {
        Ok(Self::of(PublicationData::check(data)?))
    }

    /// Of JSON that the platform wrote itself, around parts that were looked over where they came in.
    pub fn ours(data: &'a RawValue) -> Self {
        Self::of(PublicationData(data))
    }

    fn of(data: PublicationData<'a>) -> Self {
        Self { data, info: None, tags: None, idempotency_key: None, skip_history: false, key_kept_for: KEY_KEPT_FOR }
    }
}

/// A connection as others see it: in presence, joins and leaves, and beside what it publishes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientInfo {
    /// `""` for an anonymous one.
    pub user: Arc<str>,
    /// Id of the connection.
    pub client: Arc<str>,
    /// JSON that came with the connection's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conn_info: Option<Arc<RawValue>>,
    /// JSON that came with the subscription's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chan_info: Option<Arc<RawValue>>,
}

impl ClientInfo {
    /// JSON on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a client's info is plain data").replace(['\n', '\r'], " ")
    }
}
