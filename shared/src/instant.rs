//! Times that callers name, as fields of JSON and of queries: RFC 3339, kept in UTC. What PostgreSQL's driver or a text cannot say in UTC is refused here: a time of the year 9999
//! in a zone west of Greenwich is one of the year 10000, and the driver panics over it.

use serde::{Deserializer, Serializer, de::Error};
use time::{OffsetDateTime, UtcOffset, macros::datetime, serde::rfc3339};

/// The last instant that can be named: PostgreSQL counts microseconds.
pub const LAST: OffsetDateTime = datetime!(9999-12-31 23:59:59.999999 UTC);

#[expect(clippy::ref_option, reason = "serde calls it so")]
pub(crate) fn serialize<S: Serializer>(at: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    rfc3339::option::serialize(at, serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let named = rfc3339::option::deserialize(deserializer)?;
    named.map(|at| in_utc(at).ok_or_else(|| D::Error::custom("must be a time of the years 0 to 9999 in UTC"))).transpose()
}

fn in_utc(at: OffsetDateTime) -> Option<OffsetDateTime> {
    at.checked_to_offset(UtcOffset::UTC).filter(|at| at.year() >= 0 && *at <= LAST)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use time::OffsetDateTime;

    #[derive(Debug, Serialize, Deserialize)]
    struct Said {
        #[serde(default, with = "super")]
        at: Option<OffsetDateTime>,
    }

    fn said(at: &str) -> Result<String, String> {
        let said: Said = serde_json::from_str(&format!(r#"{{"at": "{at}"}}"#)).map_err(|error| error.to_string())?;
        Ok(serde_json::to_string(&said).unwrap())
    }

    #[test]
    fn what_is_no_time_in_utc_is_refused_and_the_rest_is_kept_in_utc() {
        assert_eq!(said("9999-12-31T22:59:59.999999-01:00").unwrap(), r#"{"at":"9999-12-31T23:59:59.999999Z"}"#);
        assert_eq!(said("2026-01-01T00:30:00+01:00").unwrap(), r#"{"at":"2025-12-31T23:30:00Z"}"#);
        for at in ["9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.9999999Z", "0000-01-01T00:00:00+00:01"] {
            assert!(said(at).unwrap_err().starts_with("must be a time of the years 0 to 9999 in UTC"), "{at}");
        }
        assert!(said("yesterday").is_err());
        assert!(serde_json::from_str::<Said>("{}").unwrap().at.is_none());
    }
}
