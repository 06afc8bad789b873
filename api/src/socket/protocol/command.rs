//! What clients ask, parsed. Unknown fields are ignored, `null` is as good as nothing, and texts and data are borrowed.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// One line of a message.
#[derive(Debug)]
pub(in crate::socket) struct Command<'a> {
    /// What the reply will carry; 0 asks for none, which only `send` and pongs may.
    pub(in crate::socket) id: u32,
    /// `None` for a pong.
    pub(in crate::socket) request: Option<Request<'a>>,
}

macro_rules! requests {
    ($($name:literal $variant:ident($request:ty);)*) => {
        #[derive(Debug)]
        pub(in crate::socket) enum Request<'a> { $($variant($request),)* }

        impl Request<'_> {
            /// Every method, for metrics.
            pub(in crate::socket) const METHODS: &'static [&'static str] = &[$($name),*];

            pub(in crate::socket) const fn method(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }
        }

        fn read_request<'a, M: MapAccess<'a>>(key: &str, map: &mut M) -> Result<Option<Request<'a>>, M::Error> {
            match key {
                $($name => Ok(map.next_value::<Option<$request>>()?.map(Request::$variant)),)*
                _ => map.next_value::<IgnoredAny>().map(|_| None),
            }
        }
    };
}

requests! {
    "connect" Connect(Box<Connect<'a>>);
    "subscribe" Subscribe(Box<Subscribe<'a>>);
    "unsubscribe" Unsubscribe(Of<'a>);
    "publish" Publish(Publish<'a>);
    "presence" Presence(Of<'a>);
    "presence_stats" PresenceStats(Of<'a>);
    "history" History(History<'a>);
    "ping" Ping(IgnoredAny);
    "send" Send(IgnoredAny);
    "rpc" Rpc(Rpc<'a>);
    "refresh" Refresh(Refresh<'a>);
    "sub_refresh" SubRefresh(SubRefresh<'a>);
}

/// `token` may be missing where anonymous connections are allowed.
#[derive(Debug, Deserialize)]
pub(in crate::socket) struct Connect<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(in crate::socket) token: Cow<'a, str>,
    /// Where the client stands in the channels that the server subscribes it to.
    #[serde(borrow, default, deserialize_with = "or_default")]
    pub(in crate::socket) subs: BTreeMap<Cow<'a, str>, Since<'a>>,
}

#[derive(Debug, Deserialize)]
pub(in crate::socket) struct Subscribe<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub(in crate::socket) channel: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(in crate::socket) token: Cow<'a, str>,
    /// The client wants to be told of gaps.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) positioned: bool,
    /// The client wants to come back to where it was.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) recoverable: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) join_leave: bool,
    /// Whether the client wants what came after `offset`.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) recover: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) offset: u64,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(in crate::socket) epoch: Cow<'a, str>,
    /// Wishes by bit: [`REJECT_UNRECOVERED`]; those that are not known here are for other servers.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) flag: u64,
}

/// The client would rather be refused than begin at the top without what it missed: it loads its state elsewhere then.
pub(in crate::socket) const REJECT_UNRECOVERED: u64 = 2;

/// Where a client stands in a channel.
#[derive(Debug, Default, Deserialize)]
pub(in crate::socket) struct Since<'a> {
    /// Whether it wants what came after.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) recover: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) offset: u64,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(in crate::socket) epoch: Cow<'a, str>,
}

/// A command that names a channel and nothing else.
#[derive(Debug, Deserialize)]
pub(in crate::socket) struct Of<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub(in crate::socket) channel: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
pub(in crate::socket) struct Publish<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub(in crate::socket) channel: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(in crate::socket) data: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(in crate::socket) struct History<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub(in crate::socket) channel: Cow<'a, str>,
    /// 0 asks for the position alone, below 0 for all there is.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) limit: i32,
    #[serde(borrow, default)]
    pub(in crate::socket) since: Option<Position<'a>>,
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) reverse: bool,
}

#[derive(Debug, Deserialize)]
pub(in crate::socket) struct Position<'a> {
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::socket) offset: u64,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(in crate::socket) epoch: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
pub(in crate::socket) struct Rpc<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(in crate::socket) method: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(in crate::socket) data: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(in crate::socket) struct Refresh<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(in crate::socket) token: Cow<'a, str>,
}

/// `channel` may be missing: the token names it.
#[derive(Debug, Deserialize)]
pub(in crate::socket) struct SubRefresh<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(in crate::socket) channel: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(in crate::socket) token: Cow<'a, str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Command<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CommandVisitor)
    }
}

/// Reads the members in one pass, whichever comes first.
struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = Command<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut command = Command { id: 0, request: None };
        while let Some(key) = map.next_key::<Key<'de>>()? {
            if key.0 == "id" {
                command.id = map.next_value::<Option<u32>>()?.unwrap_or_default();
            } else if let Some(request) = read_request(&key.0, &mut map)?
                && command.request.replace(request).is_some()
            {
                return Err(serde::de::Error::custom("two requests in one command"));
            }
        }
        Ok(command)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A text that is borrowed where it has no escapes; `null` is empty.
fn text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, str>, D::Error> {
    Ok(Option::<Key<'de>>::deserialize(deserializer)?.map_or(Cow::Borrowed(""), |text| text.0))
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Command<'_>, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn commands_of_the_official_clients_are_understood() {
        let connect =
            r#"{"connect":{"token":"t","data":{},"name":"js","version":"1","subs":{"a":{"recover":true,"offset":5,"epoch":"ab"}}},"id":1}"#;
        let Command { id: 1, request: Some(Request::Connect(connect)) } = parse(connect).unwrap() else { panic!("it is a connect") };
        assert_eq!((&*connect.token, connect.subs["a"].offset, &*connect.subs["a"].epoch), ("t", 5, "ab"));
        let subscribe =
            r#"{"id":2,"subscribe":{"channel":"chat:\u00e4","token":null,"recover":true,"offset":7,"epoch":"x","flag":1,"new":[]}}"#;
        let Some(Request::Subscribe(subscribe)) = parse(subscribe).unwrap().request else { panic!("it is a subscribe") };
        assert_eq!((&*subscribe.channel, subscribe.recover, subscribe.offset), ("chat:ä", true, 7));
        assert!(matches!(parse("{}").unwrap(), Command { id: 0, request: None }));
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for wrong in ["", "[]", "null", "1", r#"{"id":-1}"#, r#"{"id":1,"subscribe":{}}"#, r#"{"id":1,"ping":{},"send":{}}"#, "{}x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
