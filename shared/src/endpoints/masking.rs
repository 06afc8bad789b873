//! Values of headers that say who sends: kept and sent, and never shown.

use super::Headers;
use crate::{Code, Error, Result};
use serde::Serializer;
use url::Url;

/// What is shown instead. In a change it leaves the value as it is.
const MASK: &str = "***";

/// What is in the names of such headers.
const TELLTALES: [&str; 14] =
    ["auth", "bearer", "cookie", "credential", "hmac", "jwt", "key", "pass", "psk", "pwd", "secret", "session", "signature", "token"];

/// What is a word of their names: as a part of words it says nothing (`Shipping`).
const TELLTALE_WORDS: [&str; 7] = ["access", "code", "login", "otp", "pin", "sid", "sig"];

fn is_masked(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|character: char| !character.is_ascii_alphanumeric());
    TELLTALES.iter().any(|telltale| name.contains(telltale)) || words.any(|word| TELLTALE_WORDS.contains(&word))
}

/// As they are shown.
pub(super) fn shown(headers: &Headers) -> Headers {
    headers.iter().map(|(name, value)| (name.clone(), if is_masked(name) { MASK.to_owned() } else { value.clone() })).collect()
}

pub(super) fn serialize<S: Serializer>(headers: &Headers, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(shown(headers))
}

/// The names of those whose values are not shown.
pub(super) fn hidden(headers: &Headers) -> Vec<&str> {
    headers.keys().map(String::as_str).filter(|name| is_masked(name)).collect()
}

/// Scheme, host and port that a URL leads to.
pub(super) fn origin(url: &str) -> Option<String> {
    Url::parse(url).ok().map(|url| url.origin().ascii_serialization())
}

/// Whether both lead to one scheme, host and port. What is no URL leads nowhere that is known.
pub(super) fn is_same_origin(url: &str, before: &str) -> bool {
    let origin = |url| Url::parse(url).map(|url| url.origin());
    origin(url).is_ok_and(|new| origin(before) == Ok(new))
}

/// Whether a value is to stay as it is.
pub(super) fn keeps_any(headers: &Headers) -> bool {
    headers.iter().any(|(name, value)| stays(name, value))
}

fn stays(name: &str, value: &str) -> bool {
    value == MASK && is_masked(name)
}

/// Refuses to take values along that are not shown: whoever may change the URL could have them sent to a host of their own, and read them
/// there. `new` is what the change says of headers at the pointer `at`; where it says nothing, all of them would stay.
pub(super) fn refuse_to_take_along(new: Option<&Headers>, known: &Headers, at: &str) -> Result<()> {
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
        refusal.with_field(pointer_to(at, name), "header_value", "is for the origin before: its value must be sent again")
    }))
}

fn pointer_to(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0"))
}

/// `new`, which the request has at the pointer `at`, with the values of `known` where it says that they stay.
pub(super) fn unmask(new: &Headers, known: &Headers, at: &str) -> Result<Headers> {
    let value_of = |name: &str| known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let unmask = |(name, value): (&String, &String)| {
        if !stays(name, value) {
            return Ok((name.clone(), value.clone()));
        }
        let nothing =
            || Error::invalid(pointer_to(at, name), "header_value", format!("is `{MASK}`, and there is no value that could stay"));
        value_of(name).cloned().ok_or_else(nothing).map(|value| (name.clone(), value))
    };
    new.iter().map(unmask).collect()
}

#[cfg(test)]
mod tests {
    use super::is_masked;

    #[test]
    fn names_say_what_is_a_secret() {
        let secrets = [
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "X-Api-Key",
            "X-Access-Key",
            "X-Jwt",
            "X-JwtAssertion",
            "Bearer",
            "X-Bearer",
            "X-Session",
            "X-SessionId",
            "X-Pwd",
            "X-Db-Pwd",
            "X-Pin",
            "X-Hmac",
            "X-Psk",
            "X_PIN",
            "X-Otp",
            "Otp-Code",
            "X-Login",
            "X-Access",
            "X-Code",
            "X-Sid",
            "X-Sig",
            "X-Passcode",
        ];
        for name in secrets {
            assert!(is_masked(name), "{name}");
        }
        for name in ["X-Shop", "Accept", "X-Shipping", "X-Ping", "X-Encoder", "X-Accessory", "X-Design", "X-Inside", "X-Request-Id"] {
            assert!(!is_masked(name), "{name}");
        }
    }
}
