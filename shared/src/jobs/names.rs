//! The names of kinds and queues: short, printable, safe inside a Redis key and a metric's label.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};
use utoipa::ToSchema;

/// Longest name of a queue or kind, in bytes.
pub const NAME_MAX: usize = 100;

/// Names in words, for refusals and documentation.
pub const NAME_RULE: &str = "must be 1 to 100 letters, digits, `_`, `-` or `.`, and start with a letter or digit";

/// Whether `text` may name a queue or kind.
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= NAME_MAX
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b))
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident at $pointer:literal, example $example:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(into = "String", try_from = "String")]
        #[schema(value_type = String, min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$", example = $example)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: &str) -> Result<Self> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(Error::invalid($pointer, "name", NAME_RULE)) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// What is to be done; handlers are found by it.
    JobKind at "/kind", example "debug.echo";
    /// Where a job waits; workers consume by it.
    QueueName at "/queue", example "default";
}

impl Default for QueueName {
    /// The queue of jobs that name none.
    fn default() -> Self {
        Self("default".into())
    }
}
