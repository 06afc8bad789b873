//! What the templates (`.env.example`, `infra/systemd`, `infra/k8s`) hold in place of an operator's own values.

/// In place of passwords and keys.
const SECRET: &str = "change-me";
/// In place of hosts: domains that are nobody's (RFC 2606).
const DOMAINS: &[&str] = &["example.org", "example.com", "example.net"];

/// The placeholder that `value` still has.
pub(super) fn left_in(value: &str) -> Option<&'static str> {
    let value = value.to_ascii_lowercase();
    let has = |placeholder: &&str, joins: fn(char) -> bool, goes_on: fn(char) -> bool| {
        let parts = value.match_indices(*placeholder).map(|(at, found)| (&value[..at], &value[at + found.len()..]));
        parts.into_iter().any(|(before, after)| !before.ends_with(joins) && !after.starts_with(goes_on))
    };
    let is_alphanumeric = |c: char| c.is_ascii_alphanumeric();
    // `my-example.org` and `example.com.au` are somebody's.
    let is_of_label = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let secret = Some(SECRET).filter(|secret| has(secret, is_alphanumeric, is_alphanumeric));
    secret.or_else(|| DOMAINS.iter().copied().find(|domain| has(domain, is_of_label, is_of_name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_told_from_what_is_somebodys_own() {
        let left = [
            ("postgres://millrace:change-me@127.0.0.1:5432/millrace", "change-me"),
            ("Change-Me", "change-me"),
            ("https://api.example.org", "example.org"),
            ("Example <no-reply@EXAMPLE.com>", "example.com"),
            ("https://example.net:8443/x", "example.net"),
            ("https://own.site,https://app.example.org", "example.org"),
        ];
        for (value, placeholder) in left {
            assert_eq!(left_in(value), Some(placeholder), "{value}");
        }
        let own =
            ["", "auto", "https://my-example.org", "https://example.com.au", "https://example.community", "change-meadow", "exchange-me"];
        for value in own {
            assert_eq!(left_in(value), None, "{value}");
        }
    }
}
