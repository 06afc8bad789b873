//! Values of headers that say who sends: kept and sent, and never shown.

use super::Headers;
use crate::{Error, Result};
use serde::Serializer;

/// What is shown instead. In a change it leaves the value as it is.
const MASK: &str = "***";

/// What is in the names of such headers.
const TELLTALES: [&str; 8] = ["auth", "cookie", "credential", "key", "pass", "secret", "signature", "token"];

fn is_masked(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLTALES.iter().any(|telltale| name.contains(telltale))
}

pub(super) fn serialize<S: Serializer>(headers: &Headers, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name, if is_masked(name) { MASK } else { value.as_str() })))
}

/// `new` with the values of `known` where it says that they stay.
pub(super) fn unmask(new: &Headers, known: &Headers) -> Result<Headers> {
    let stays = |name: &str, value: &str| value == MASK && is_masked(name);
    let value_of = |name: &str| known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let unmask = |(name, value): (&String, &String)| {
        if !stays(name, value) {
            return Ok((name.clone(), value.clone()));
        }
        let nothing =
            || Error::invalid(format!("/headers/{name}"), "header_value", format!("is `{MASK}`, and there is no value that could stay"));
        value_of(name).cloned().ok_or_else(nothing).map(|value| (name.clone(), value))
    };
    new.iter().map(unmask).collect()
}
