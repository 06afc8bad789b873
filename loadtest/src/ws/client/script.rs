//! What sockets say: command texts, and frames that are written once and sent often.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::orders::{Dialect, Plan};
use super::wire::{self, Opcode};

pub(super) const CONNECT_ID: u32 = 1;
pub(super) const SUBSCRIBE_ID: u32 = 2;
pub(super) const ECHO_ID: u32 = 3;
/// Publish commands have this id: which of several in flight is answered does not matter, they are answered in order.
pub(super) const PUBLISH_ID: u32 = 4;

/// Ready-made frames.
#[derive(Debug)]
pub(super) struct Script {
    /// A request for the upgrade per target.
    pub(super) upgrades: Vec<Vec<u8>>,
    /// The answer to a heartbeat.
    pub(super) pong: Vec<u8>,
    pub(super) echo: Vec<u8>,
}

/// Where a subscription goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position<'a> {
    pub(super) offset: u64,
    pub(super) epoch: &'a str,
}

impl Script {
    pub(super) fn new(plan: &Plan) -> Self {
        let upgrade = |target: &super::super::orders::Target| wire::upgrade_request(&target.authority, &target.path);
        Self { upgrades: plan.targets.iter().map(upgrade).collect(), pong: text_frame("{}"), echo: Vec::new() }
    }

    pub(super) fn prepare_echo(&mut self, method: &str, n_padding: u32) {
        let data = if n_padding == 0 { json!({}) } else { json!({ "x": padding(n_padding) }) };
        self.echo = text_frame(&json!({"id": ECHO_ID, "rpc": {"method": method, "data": data}}).to_string());
    }
}

/// The first frame of a connection: as the official clients do, everything in one.
pub(super) fn greeting(token: Option<&str>, channel: Option<&str>, position: Option<Position<'_>>) -> String {
    let mut connect = json!({"id": CONNECT_ID, "connect": {"name": "millrace-loadtest"}});
    if let Some(token) = token {
        connect["connect"]["token"] = token.into();
    }
    match channel {
        Some(channel) => format!("{connect}\n{}", subscribe(channel, position)),
        None => connect.to_string(),
    }
}

pub(super) fn subscribe(channel: &str, position: Option<Position<'_>>) -> String {
    let mut subscribe = json!({"channel": channel, "positioned": true, "recoverable": true});
    if let Some(position) = position {
        subscribe["recover"] = Value::Bool(true);
        subscribe["offset"] = position.offset.into();
        subscribe["epoch"] = position.epoch.into();
    }
    json!({"id": SUBSCRIBE_ID, "subscribe": subscribe}).to_string()
}

/// One publication of the load tester.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publication<'a> {
    pub(super) channel: &'a str,
    /// When it is published, or was due.
    pub(super) at_ns: u64,
    pub(super) publisher: u32,
    /// Its number on the channel, which is its offset where the server gives none.
    pub(super) number: u64,
    pub(super) padding: &'a str,
}

impl Publication<'_> {
    pub(super) fn data(&self) -> String {
        format!(r#"{{"t":{},"p":{},"x":"{}"}}"#, self.at_ns, self.publisher, self.padding)
    }

    pub(super) fn text(&self, dialect: Dialect) -> String {
        let (channel, data) = (self.channel, self.data());
        match dialect {
            Dialect::Protocol => format!(r#"{{"id":{PUBLISH_ID},"publish":{{"channel":"{channel}","data":{data}}}}}"#),
            Dialect::Bare => format!(r#"{{"push":{{"channel":"{channel}","pub":{{"data":{data},"offset":{}}}}}}}"#, self.number),
        }
    }
}

pub(super) fn padding(n_bytes: u32) -> String {
    "x".repeat(n_bytes as usize)
}

pub(super) fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 14);
    wire::write(&mut frame, Opcode::Text, text.as_bytes());
    frame
}

/// The reply to a subscribe: rare, and so the one line that is parsed.
#[derive(Debug, Deserialize)]
pub(super) struct SubscribeReply {
    pub(super) subscribe: Subscribed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscribed {
    pub(super) offset: u64,
    pub(super) epoch: String,
    pub(super) recovered: bool,
    pub(super) publications: Vec<Recovered>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Recovered {
    pub(super) offset: u64,
    pub(super) data: RecoveredData,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecoveredData {
    pub(super) p: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_begins_with_connect_and_subscribe_in_one_frame() {
        let text = greeting(Some("tok"), Some("chat:a"), Some(Position { offset: 7, epoch: "ab" }));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines[0], json!({"id": 1, "connect": {"token": "tok", "name": "millrace-loadtest"}}));
        let expected = json!({"channel": "chat:a", "positioned": true, "recoverable": true, "recover": true, "offset": 7, "epoch": "ab"});
        assert_eq!(lines[1], json!({"id": 2, "subscribe": expected}));
        assert_eq!(greeting(None, None, None).lines().count(), 1);
    }

    #[test]
    fn the_reference_is_sent_what_a_subscriber_of_the_platform_gets() {
        let publication = Publication { channel: "chat:a", at_ns: 5, publisher: 2, number: 9, padding: "xx" };
        let ours = publication.text(Dialect::Protocol);
        assert_eq!(ours, r#"{"id":4,"publish":{"channel":"chat:a","data":{"t":5,"p":2,"x":"xx"}}}"#);
        let bare = publication.text(Dialect::Bare);
        assert_eq!(bare, r#"{"push":{"channel":"chat:a","pub":{"data":{"t":5,"p":2,"x":"xx"},"offset":9}}}"#);
    }
}
