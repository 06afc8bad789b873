//! What clients are answered, and told without asking: each becomes one text frame. Zero values are left out, but where
//! the protocol says otherwise.

use super::{close::UnsubscribeReason, error::Refusal};
use crate::socket::frames;
use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;
use shared::channels::{Publication, presence::PresenceList};
use uuid::Uuid;

/// `{"id":…,"<method>":<result>}`.
pub(in crate::socket) fn success(id: u32, method: &'static str, result: &impl Serialize) -> Bytes {
    frames::text(|buffer| {
        begin(buffer, id, method);
        write(buffer, result);
        buffer.push(b'}');
    })
}

/// `{"id":…,"error":{…}}`.
pub(in crate::socket) fn refusal(id: u32, refusal: &Refusal) -> Bytes {
    success(id, "error", refusal)
}

/// `{"push":{"channel":…,"<kind>":<push>}}`.
pub(in crate::socket) fn push(channel: &str, kind: &'static str, push: &impl Serialize) -> Bytes {
    frames::text(|buffer| {
        begin_push(buffer, channel, kind);
        write(buffer, push);
        buffer.extend_from_slice(b"}}");
    })
}

/// A publication as all subscribers get it.
pub(in crate::socket) fn publication(channel: &str, publication: &Publication) -> Bytes {
    frames::text(|buffer| {
        begin_push(buffer, channel, "pub");
        write_publication(buffer, publication);
        buffer.extend_from_slice(b"}}");
    })
}

/// A join or leave; `info` is the JSON of who it is.
pub(in crate::socket) fn presence_push(channel: &str, kind: &'static str, info: &[u8]) -> Bytes {
    frames::text(|buffer| {
        begin_push(buffer, channel, kind);
        buffer.extend_from_slice(b"{\"info\":");
        buffer.extend_from_slice(info);
        buffer.extend_from_slice(b"}}}");
    })
}

/// The answer to `subscribe`.
pub(in crate::socket) fn subscribed(id: u32, result: &Subscribed<'_>, publications: &[Publication]) -> Bytes {
    frames::text(|buffer| {
        begin(buffer, id, "subscribe");
        write_with(buffer, result, publications, Listed::IfAny);
        buffer.push(b'}');
    })
}

/// The answer to `history`.
pub(in crate::socket) fn history(id: u32, result: &HistoryRead<'_>, publications: &[Publication]) -> Bytes {
    frames::text(|buffer| {
        begin(buffer, id, "history");
        write_with(buffer, result, publications, Listed::Always);
        buffer.push(b'}');
    })
}

/// The answer to `connect`, with the subscriptions that the server makes: name, result and publications of each.
pub(in crate::socket) fn connected(id: u32, result: &Connected<'_>, subs: &[(&str, Subscribed<'_>, &[Publication])]) -> Bytes {
    frames::text(|buffer| {
        begin(buffer, id, "connect");
        write(buffer, result);
        if !subs.is_empty() {
            buffer.pop();
            buffer.extend_from_slice(b",\"subs\":{");
            for (index, (channel, result, publications)) in subs.iter().enumerate() {
                if index > 0 {
                    buffer.push(b',');
                }
                write(buffer, channel);
                buffer.push(b':');
                write_with(buffer, result, publications, Listed::IfAny);
            }
            buffer.extend_from_slice(b"}}");
        }
        buffer.push(b'}');
    })
}

/// Whether a list of publications is there when it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Always,
    IfAny,
}

/// An object with its `publications` put in as they are kept: they are JSON, and are not read to be sent.
fn write_with(buffer: &mut Vec<u8>, object: &impl Serialize, publications: &[Publication], listed: Listed) {
    write(buffer, object);
    if publications.is_empty() && listed == Listed::IfAny {
        return;
    }
    buffer.pop();
    if buffer.last() != Some(&b'{') {
        buffer.push(b',');
    }
    buffer.extend_from_slice(b"\"publications\":[");
    for (index, publication) in publications.iter().enumerate() {
        if index > 0 {
            buffer.push(b',');
        }
        write_publication(buffer, publication);
    }
    buffer.extend_from_slice(b"]}");
}

/// Its body is an object that begins with `{"data":`.
fn write_publication(buffer: &mut Vec<u8>, publication: &Publication) {
    if publication.offset == 0 {
        buffer.extend_from_slice(&publication.body);
        return;
    }
    buffer.extend_from_slice(b"{\"offset\":");
    write(buffer, &publication.offset);
    buffer.push(b',');
    buffer.extend_from_slice(&publication.body[1..]);
}

/// The ping of the protocol, an empty command, in a frame.
pub(in crate::socket) const PING: Bytes = Bytes::from_static(b"\x81\x02{}");

fn begin_push(buffer: &mut Vec<u8>, channel: &str, kind: &'static str) {
    buffer.extend_from_slice(b"{\"push\":{\"channel\":");
    write(buffer, channel);
    buffer.extend_from_slice(b",\"");
    buffer.extend_from_slice(kind.as_bytes());
    buffer.extend_from_slice(b"\":");
}

fn begin(buffer: &mut Vec<u8>, id: u32, method: &'static str) {
    buffer.extend_from_slice(b"{\"id\":");
    write(buffer, &id);
    buffer.extend_from_slice(b",\"");
    buffer.extend_from_slice(method.as_bytes());
    buffer.extend_from_slice(b"\":");
}

fn write(buffer: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(buffer, value).expect("replies have text keys, and a buffer takes all");
}

/// A result that says nothing but that it was done.
#[derive(Debug, Serialize)]
pub(in crate::socket) struct Done {}

#[derive(Debug, Serialize)]
pub(in crate::socket) struct Connected<'a> {
    pub(in crate::socket) client: &'a str,
    pub(in crate::socket) version: &'static str,
    #[serde(flatten)]
    pub(in crate::socket) expiry: Expiry,
    /// Seconds between pings.
    pub(in crate::socket) ping: u64,
    /// Pings have to be answered.
    pub(in crate::socket) pong: bool,
}

/// Until when a connection or subscription is good without a fresh token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::socket) struct Expiry(pub(in crate::socket) Option<u32>);

impl Serialize for Expiry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(ttl_s) = self.0 {
            map.serialize_entry("expires", &true)?;
            map.serialize_entry("ttl", &ttl_s)?;
        }
        map.end()
    }
}

#[derive(Debug, Default, Serialize)]
pub(in crate::socket) struct Subscribed<'a> {
    #[serde(skip_serializing_if = "is_false")]
    pub(in crate::socket) recoverable: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(in crate::socket) positioned: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(in crate::socket) epoch: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pub(in crate::socket) offset: u64,
    #[serde(skip_serializing_if = "is_false")]
    pub(in crate::socket) was_recovering: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(in crate::socket) recovered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::socket) data: Option<&'a RawValue>,
    #[serde(flatten)]
    pub(in crate::socket) expiry: Expiry,
}

#[derive(Debug, Serialize)]
pub(in crate::socket) struct HistoryRead<'a> {
    pub(in crate::socket) epoch: &'a str,
    pub(in crate::socket) offset: u64,
}

#[derive(Debug, Serialize)]
pub(in crate::socket) struct PresenceRead {
    /// Clients' info by their id.
    pub(in crate::socket) presence: PresenceList,
}

#[derive(Debug, Serialize)]
pub(in crate::socket) struct PresenceCounted {
    pub(in crate::socket) num_clients: u64,
    pub(in crate::socket) num_users: u64,
}

#[derive(Debug, Serialize)]
pub(in crate::socket) struct RpcDone {
    pub(in crate::socket) data: Box<RawValue>,
}

#[derive(Debug, Serialize)]
pub(in crate::socket) struct Refreshed {
    pub(in crate::socket) client: Uuid,
    pub(in crate::socket) version: &'static str,
    #[serde(flatten)]
    pub(in crate::socket) expiry: Expiry,
}

#[derive(Debug, Serialize)]
pub(in crate::socket) struct Unsubscribed<'a> {
    pub(in crate::socket) code: u32,
    pub(in crate::socket) reason: &'a str,
}

impl From<UnsubscribeReason> for Unsubscribed<'static> {
    fn from(reason: UnsubscribeReason) -> Self {
        Self { code: reason.code, reason: reason.text }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
