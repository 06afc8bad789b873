//! Values of headers that say who sends: kept and sent, and never shown.

use super::Headers;
use crate::{Code, Error, Result};
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

fn stays(name: &str, value: &str) -> bool {
    value == MASK && is_masked(name)
}

/// Refuses to take values along that are not shown: whoever may change the URL could have them sent to a host of their own, and read them
/// there. `new` is what the change says of headers; where it says nothing, all of them would stay.
pub(super) fn refuse_to_take_along(new: Option<&Headers>, known: &Headers) -> Result<()> {
    let kept: Vec<&String> = match new {
        Some(new) => new.iter().filter(|(name, value)| stays(name, value)).map(|(name, _)| name).collect(),
        None => known.keys().filter(|name| is_masked(name)).collect(),
    };
    if kept.is_empty() {
        return Ok(());
    }
    let names = kept.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let detail =
        format!("The URL leads to another origin, where values that are not shown are not sent: send {names} again, or leave them out.");
    let refusal = Error::new(Code::ValidationFailed, detail);
    Err(kept.into_iter().fold(refusal, |refusal, name| {
        refusal.with_field(pointer_to(name), "header_value", "is for the origin before: its value must be sent again")
    }))
}

fn pointer_to(name: &str) -> String {
    format!("/headers/{}", name.replace('~', "~0"))
}

/// `new` with the values of `known` where it says that they stay.
pub(super) fn unmask(new: &Headers, known: &Headers) -> Result<Headers> {
    let value_of = |name: &str| known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let unmask = |(name, value): (&String, &String)| {
        if !stays(name, value) {
            return Ok((name.clone(), value.clone()));
        }
        let nothing = || Error::invalid(pointer_to(name), "header_value", format!("is `{MASK}`, and there is no value that could stay"));
        value_of(name).cloned().ok_or_else(nothing).map(|value| (name.clone(), value))
    };
    new.iter().map(unmask).collect()
}
