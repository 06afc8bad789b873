//! What callers say of endpoints and of where a job goes, checked.

use super::Headers;
use crate::{Error, Result, ids::EndpointId, json_fields};
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use validator::{Validate, ValidationError};

pub(super) const TIMEOUT_MS: i32 = 15_000;
const TIMEOUT_MAX_MS: i64 = 60_000;
/// A week.
const CALLBACK_MAX_S: i64 = 604_800;
/// Deliveries per second: from one in a hundred seconds to more than one receiver takes.
const RATE_MIN: f64 = 0.01;
const RATE_MAX: f64 = 10_000.0;
const HEADERS_MAX: usize = 20;
const HEADER_VALUE_MAX: usize = 1_000;

/// Headers that are ours to set, or that would change how the message is read.
const OURS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const OUR_PREFIXES: &[&str] = &["proxy-", "webhook-"];

/// A new endpoint.
#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "orders", "url": "https://example.org/hooks/orders"}))]
pub struct NewEndpoint {
    #[validate(length(min = 1, max = 200))]
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// http or https, without user and fragment; its host must have public addresses.
    #[validate(length(min = 1, max = 2_048))]
    #[schema(min_length = 1, max_length = 2048)]
    pub url: String,
    /// Up to 20, added to each delivery.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub headers: Option<Headers>,
    /// Longest that a delivery may take; 15000 when absent.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 100, max = TIMEOUT_MAX_MS))]
    #[schema(minimum = 100, maximum = 60_000)]
    pub timeout_ms: Option<i64>,
    /// Deliveries per second, over all workers; what is too fast waits, and uses no attempt. Absent: as many as come.
    #[validate(range(min = RATE_MIN, max = RATE_MAX))]
    #[schema(minimum = 0.01, maximum = 10_000)]
    pub max_rate: Option<f64>,
}

/// What of an endpoint is to change; what is absent stays.
#[derive(Debug, Clone, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"timeout_ms": 5_000}))]
pub struct PatchEndpoint {
    #[validate(length(min = 1, max = 200))]
    #[schema(min_length = 1, max_length = 200)]
    pub name: Option<String>,
    #[validate(length(min = 1, max = 2_048))]
    #[schema(min_length = 1, max_length = 2048)]
    pub url: Option<String>,
    /// Replaces all of them; one that is shown as `***`, and sent so, keeps its value. Where `url` changes scheme, host or port, none is
    /// kept: those must be sent again, or left out.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub headers: Option<Headers>,
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 100, max = TIMEOUT_MAX_MS))]
    #[schema(minimum = 100, maximum = 60_000)]
    pub timeout_ms: Option<i64>,
    /// Deliveries per second; 0 lifts the limit.
    #[validate(custom(function = "rate_or_none"))]
    #[schema(minimum = 0, maximum = 10_000)]
    pub max_rate: Option<f64>,
}

fn rate_or_none(max_rate: f64) -> Result<(), ValidationError> {
    if max_rate == 0.0 || (RATE_MIN..=RATE_MAX).contains(&max_rate) {
        return Ok(());
    }
    Err(ValidationError::new("range").with_message(format!("must be 0, or {RATE_MIN} to {RATE_MAX}").into()))
}

/// Where a job goes: to an endpoint, or to a URL (whose deliveries nobody signs). Of jobs of kind `http.request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitTarget {
    #[serde(rename = "type")]
    pub kind: TargetKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<EndpointId>,
    #[validate(length(min = 1, max = 2_048))]
    #[schema(min_length = 1, max_length = 2048)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// POST when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<TargetMethod>,
    /// Up to 20, in place of the endpoint's of the same name. Those that are secrets by their names are for the origin (scheme, host and
    /// port) that the endpoint has now: if it has left that when the job is to be delivered, the job is dead with `endpoint_moved`.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// The endpoint's, or 15000, when absent.
    #[serde(default, deserialize_with = "json_fields::whole", skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 100, max = TIMEOUT_MAX_MS))]
    #[schema(minimum = 100, maximum = 60_000)]
    pub timeout_ms: Option<i64>,
    /// Lets the receiver answer 202 and call back within so many seconds: the job waits for it. Absent, 202 is a success as any 2xx.
    #[serde(default, deserialize_with = "json_fields::whole", skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 1, max = CALLBACK_MAX_S))]
    #[schema(minimum = 1, maximum = 604_800)]
    pub callback_ttl_s: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TargetMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// Refuses headers that could not be sent, or are ours.
pub(super) fn check_headers(headers: &Headers, pointer: &str) -> Result<()> {
    if headers.len() > HEADERS_MAX {
        return Err(Error::invalid(pointer, "length", format!("must be at most {HEADERS_MAX} headers")));
    }
    for (name, value) in headers {
        let at = || format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        let lower = name.to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() || name.len() > 100 {
            return Err(Error::invalid(at(), "header_name", "is not the name of a header"));
        }
        if OURS.contains(&lower.as_str()) || OUR_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
            return Err(Error::invalid(at(), "header_name", "is not for callers to set"));
        }
        if headers.keys().any(|other| other != name && other.eq_ignore_ascii_case(name)) {
            return Err(Error::invalid(at(), "header_name", "is there twice: names that differ in case alone are the same"));
        }
        if value.len() > HEADER_VALUE_MAX || !value.is_ascii() || HeaderValue::from_str(value).is_err() {
            return Err(Error::invalid(at(), "header_value", format!("must be up to {HEADER_VALUE_MAX} visible ASCII characters")));
        }
    }
    Ok(())
}

pub(super) fn milliseconds(timeout_ms: Option<i64>) -> Option<i32> {
    timeout_ms.map(|ms| i32::try_from(ms).expect("checked to be at most a minute"))
}
