//! The shapes of accounts on the wire, and where a request came from.

use crate::{
    Role, Scope,
    ids::{ApiKeyId, SessionId, UserId},
};
use serde::Serialize;
use std::{fmt, net::IpAddr};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// Longest user agent that is kept, in characters.
const USER_AGENT_MAX: usize = 256;

/// Where a request came from, for sessions and the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    pub request_id: Option<String>,
    pub address: Option<IpAddr>,
    pub user_agent: Option<String>,
}

impl Origin {
    pub(super) fn kept_user_agent(&self) -> Option<String> {
        let kept: String = self.user_agent.as_deref()?.chars().filter(|c| !c.is_control()).take(USER_AGENT_MAX).collect();
        (!kept.is_empty()).then_some(kept)
    }
}

/// A person or service that signs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    pub id: UserId,
    #[schema(format = "email", example = "ada@example.org")]
    pub email: String,
    #[schema(required, example = "Ada")]
    pub display_name: Option<String>,
    pub role: Role,
    /// A disabled user cannot sign in, and none of their credentials is good.
    pub disabled: bool,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(format = "date-time", value_type = String)]
    pub created_at: OffsetDateTime,
}

/// The tokens of a session, for its user to keep.
#[derive(Clone, Serialize, ToSchema)]
pub struct Session {
    pub access_token: String,
    #[schema(pattern = "^Bearer$", example = "Bearer")]
    pub token_type: &'static str,
    /// Seconds until `access_token` ends.
    #[schema(example = 900, minimum = 1)]
    pub expires_in: u64,
    /// Good for one call of refresh, which gives the next one.
    pub refresh_token: String,
    pub user: User,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The tokens are secrets.
        f.debug_struct("Session").field("expires_in", &self.expires_in).field("user", &self.user.id).finish_non_exhaustive()
    }
}

/// A session as its user sees it in the list of theirs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ListedSession {
    pub id: SessionId,
    /// Whether the request came by this session.
    pub current: bool,
    #[schema(required)]
    pub user_agent: Option<String>,
    #[schema(required, value_type = Option<String>, example = "192.0.2.7")]
    pub address: Option<IpAddr>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(format = "date-time", value_type = String)]
    pub created_at: OffsetDateTime,
    /// When it was last refreshed.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(format = "date-time", value_type = String)]
    pub last_used_at: OffsetDateTime,
    /// When it ends unless it is refreshed before.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(format = "date-time", value_type = String)]
    pub expires_at: OffsetDateTime,
}

/// A key for programs; `key` is there once, in the answer to its creation.
#[derive(Clone, Serialize, ToSchema)]
pub struct ApiKey {
    pub id: ApiKeyId,
    #[schema(example = "nightly import")]
    pub name: String,
    /// First part of the key, to recognise it by.
    pub prefix: String,
    pub scopes: Vec<Scope>,
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(required, format = "date-time", value_type = Option<String>)]
    pub expires_at: Option<OffsetDateTime>,
    /// To the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(required, format = "date-time", value_type = Option<String>)]
    pub last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(format = "date-time", value_type = String)]
    pub created_at: OffsetDateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "mr_0199d8c27e1a7b2c8d3e4f5a6b7c8d9e_8RbVYtYB1hYt0e2mPq1YJ1cX9m1m0u3Hq6cVbJ5wY3A")]
    pub key: Option<String>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `key` is a secret.
        f.debug_struct("ApiKey").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}
