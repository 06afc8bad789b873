//! What tokens say, as Centrifugo's clients and backends write it.

use crate::channels::{Action, Capability, ChannelName, Pattern, PublicationData, ServerSubscription, TokenError};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, sync::Arc};
use time::OffsetDateTime;

/// Channels that one token may subscribe to: a connection's own limit is checked by whoever holds it.
const SUBSCRIPTIONS_MAX: usize = 1_000;

type Json = Option<Arc<RawValue>>;

#[derive(Debug, Deserialize)]
pub(super) struct ConnectionClaims {
    /// None, or `""`, is anonymous.
    #[serde(default)]
    pub(super) sub: String,
    exp: Option<f64>,
    nbf: Option<f64>,
    /// In the place of `exp`, for a connection that outlives its token; 0 never ends.
    expire_at: Option<f64>,
    info: Json,
    b64info: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    subs: BTreeMap<String, SubscriptionOptions>,
    #[serde(default)]
    caps: Vec<CapabilityClaim>,
    /// Of a token for one subscription, which is to connect nobody.
    channel: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct SubscriptionOptions {
    info: Json,
    b64info: Option<String>,
    data: Json,
    b64data: Option<String>,
}

#[derive(Debug, Deserialize)]
struct CapabilityClaim {
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default, rename = "match")]
    matching: String,
    #[serde(default)]
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SubscriptionClaims {
    #[serde(default)]
    pub(super) sub: String,
    pub(super) channel: String,
    /// The connection that alone may use it; an older form than `sub`.
    pub(super) client: Option<String>,
    pub(super) typ: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    expire_at: Option<f64>,
    info: Json,
    b64info: Option<String>,
}

/// Claims that count for a time.
pub(super) trait Timed {
    fn times(&self) -> (Option<f64>, Option<f64>);

    fn expires_at(&self) -> Result<Option<OffsetDateTime>, TokenError> {
        moment(self.times().0)
    }

    fn not_before(&self) -> Result<Option<OffsetDateTime>, TokenError> {
        moment(self.times().1)
    }
}

impl Timed for ConnectionClaims {
    fn times(&self) -> (Option<f64>, Option<f64>) {
        (self.exp, self.nbf)
    }
}

impl Timed for SubscriptionClaims {
    fn times(&self) -> (Option<f64>, Option<f64>) {
        (self.exp, self.nbf)
    }
}

/// Seconds since 1970; 0 is none.
fn moment(seconds: Option<f64>) -> Result<Option<OffsetDateTime>, TokenError> {
    let Some(seconds) = seconds.filter(|seconds| *seconds != 0.0) else { return Ok(None) };
    #[expect(clippy::cast_possible_truncation, reason = "what is out of range saturates, and is no time then")]
    let whole = seconds as i64;
    OffsetDateTime::from_unix_timestamp(whole).map(Some).map_err(|_| TokenError::Invalid)
}

/// Others are shown it, as they are shown publications.
fn json(plain: &Json, encoded: Option<&str>) -> Result<Json, TokenError> {
    let json = match encoded.filter(|encoded| !encoded.is_empty()) {
        Some(encoded) => Some(decoded(encoded).ok_or(TokenError::Invalid)?),
        None => plain.clone(),
    };
    json.as_deref().map(PublicationData::check).transpose().map_err(|_| TokenError::Invalid)?;
    Ok(json)
}

fn decoded(base64: &str) -> Json {
    let text = String::from_utf8(STANDARD.decode(base64).ok()?).ok()?;
    RawValue::from_string(text).ok().map(Into::into)
}

impl ConnectionClaims {
    pub(super) fn is_for_a_subscription(&self) -> bool {
        self.channel.is_some()
    }

    /// When the connection ends.
    pub(super) fn ends_at(&self) -> Result<Option<OffsetDateTime>, TokenError> {
        moment(self.expire_at.or(self.exp))
    }

    pub(super) fn info(&self) -> Result<Json, TokenError> {
        json(&self.info, self.b64info.as_deref())
    }

    pub(super) fn subscriptions(&self) -> Result<Vec<ServerSubscription>, TokenError> {
        if self.channels.len() + self.subs.len() > SUBSCRIPTIONS_MAX {
            return Err(TokenError::Invalid);
        }
        let plain = self.channels.iter().filter(|channel| !self.subs.contains_key(*channel));
        let plain = plain.map(|channel| Ok(ServerSubscription { channel: name(channel)?, chan_info: None, data: None }));
        let with_options = self.subs.iter().map(|(channel, options)| {
            let chan_info = json(&options.info, options.b64info.as_deref())?;
            Ok(ServerSubscription { channel: name(channel)?, chan_info, data: json(&options.data, options.b64data.as_deref())? })
        });
        plain.chain(with_options).collect()
    }

    /// What cannot be understood allows nothing.
    pub(super) fn capabilities(&self) -> Vec<Capability> {
        let understood = self.caps.iter().filter_map(|claim| {
            let pattern = match claim.matching.as_str() {
                "" => Pattern::Exact,
                "wildcard" => Pattern::Wildcard,
                _ => return None,
            };
            let channels = claim.channels.iter().cloned().map(pattern).collect();
            Some(Capability { channels, allow: claim.allow.iter().filter_map(|right| action(right)).collect() })
        });
        understood.collect()
    }
}

impl SubscriptionClaims {
    /// When the subscription ends.
    pub(super) fn ends_at(&self) -> Result<Option<OffsetDateTime>, TokenError> {
        moment(self.expire_at.or(self.exp))
    }

    pub(super) fn info(&self) -> Result<Json, TokenError> {
        json(&self.info, self.b64info.as_deref())
    }
}

fn name(channel: &str) -> Result<ChannelName, TokenError> {
    ChannelName::new(channel).map_err(|_| TokenError::Invalid)
}

fn action(right: &str) -> Option<Action> {
    match right {
        "sub" => Some(Action::Subscribe),
        "pub" => Some(Action::Publish),
        "hst" => Some(Action::ReadHistory),
        "prs" => Some(Action::ReadPresence),
        _ => None,
    }
}
