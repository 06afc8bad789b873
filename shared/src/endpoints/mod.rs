//! Endpoints: receivers that jobs are delivered to over HTTP, each with a secret that its deliveries are signed with.
//!
//! In reading order: this file (types), [`input`] (what callers say), [`manage`] (what they do), [`target`] (where a job goes),
//! [`mod@deliver`] (one delivery and what it comes to), [`callbacks`] (receivers that say so later); `store` holds the SQL,
//! `masking` what of them is not shown.

pub mod callbacks;
pub mod deliver;
pub mod input;
pub mod manage;
mod masking;
mod store;
pub mod target;

use crate::{ids::EndpointId, outbound::breaker::Breaker};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// The kind of jobs that are delivered.
pub const KIND: &str = "http.request";

/// Headers by name, as they are added to each delivery.
pub type Headers = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum EndpointState {
    Active,
    /// Its jobs wait, and use no attempt.
    Paused,
    /// It said that it is gone (410): its jobs are dead. `resume` makes it active again.
    Disabled,
}

/// A receiver as its owner sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Endpoint {
    #[serde(flatten)]
    pub settings: EndpointSettings,
    /// For the receiver to check signatures by: only in the answers that make it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    pub secret: Option<String>,
    pub breaker: Breaker,
}

/// What is set of it, which its `ETag` names.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EndpointSettings {
    pub id: EndpointId,
    #[schema(example = "orders")]
    pub name: String,
    #[schema(example = "https://example.org/hooks/orders")]
    pub url: String,
    /// `***` is the value of those whose name says that it is a secret: `Authorization`, `Cookie`, `X-Api-Key` and the like.
    #[serde(serialize_with = "masking::serialize")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub headers: Headers,
    /// Longest that a delivery may take.
    #[schema(example = 15_000)]
    pub timeout_ms: i32,
    /// Deliveries per second, over all workers; `null`: as many as come.
    #[schema(required, example = 10.0)]
    pub max_rate: Option<f64>,
    pub state: EndpointState,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

#[cfg(test)]
mod tests;
