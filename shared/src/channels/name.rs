//! A channel's name, and which namespace it belongs to: what stands before the first `:`.

use super::ChannelError;
use std::{borrow::Borrow, fmt, sync::Arc};

/// Longest name, in bytes: as long as other implementations of the protocol allow by default.
pub const NAME_BYTES_MAX: usize = 255;

/// A name that was checked: 1 to 255 bytes, no control characters, no U+FFFD. Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    pub fn new(name: &str) -> Result<Self, ChannelError> {
        if name.is_empty() {
            return Err(ChannelError::BadRequest("A channel's name must not be empty."));
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(ChannelError::LimitExceeded("A channel's name is at most 255 bytes long."));
        }
        if name.chars().any(char::is_control) {
            return Err(ChannelError::BadRequest("A channel's name must not hold control characters."));
        }
        // It stands for bytes that were no text, in a path for instance: names that differ would become one.
        if name.contains(char::REPLACEMENT_CHARACTER) {
            return Err(ChannelError::BadRequest("A channel's name must be UTF-8, without the replacement character U+FFFD."));
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a subscription takes a token of its own, whatever the namespace says: names that start with `$`.
    pub fn is_private(&self) -> bool {
        self.0.starts_with(PRIVATE)
    }

    /// Name of the namespace, and the rest. `None` for a name without `:`.
    pub(super) fn parts(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix(PRIVATE).unwrap_or(&self.0).split_once(':')
    }
}

const PRIVATE: char = '$';

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl serde::Serialize for ChannelName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for ChannelName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_of_bounded_length() {
        for good in ["a", "chat:1", "user:#7", "näme: with space", &"x".repeat(NAME_BYTES_MAX)] {
            assert_eq!(ChannelName::new(good).unwrap().as_str(), good);
        }
        for wrong in ["", "a\nb", "\u{0}", "\u{85}", "a\u{fffd}", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(ChannelName::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_namespace_is_what_stands_before_the_first_colon() {
        let parts = |name| ChannelName::new(name).unwrap().parts().map(|(a, b)| (a.to_owned(), b.to_owned()));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(parts("chat:a:b"), pair("chat", "a:b"));
        assert_eq!(parts("$chat:a"), pair("chat", "a"));
        assert_eq!(parts(":a"), pair("", "a"));
        assert_eq!(parts("news"), None);
    }
}
