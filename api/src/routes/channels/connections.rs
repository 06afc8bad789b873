//! Closing connections, wherever they are held.

use crate::{
    error::ApiResult,
    extract::{Body, CallerOf, Meta},
    state::AppState,
};
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use serde::Deserialize;
use shared::channels::{
    Addressee,
    administration::{self, Parting},
};
use utoipa::ToSchema;
use validator::{Validate, ValidationError};

/// How a connection is told to go.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"code": 4_500, "reason": "signed out elsewhere"}))]
pub struct Disconnect {
    /// 3503 unless given. Clients come back by themselves after 3000 to 3499 and 4000 to 4499.
    #[serde(default)]
    #[validate(range(min = 3_000, max = 4_999))]
    #[schema(minimum = 3_000, maximum = 4_999)]
    code: Option<u32>,
    /// At most 123 bytes, which is what a close frame holds; not JSON.
    #[serde(default)]
    #[validate(custom(function = "check_reason"))]
    #[schema(max_length = 123)]
    reason: Option<String>,
}

fn check_reason(reason: &str) -> Result<(), ValidationError> {
    let refuse = |message: &'static str| Err(ValidationError::new("reason").with_message(message.into()));
    match reason {
        _ if reason.len() > 123 => refuse("must have at most 123 bytes"),
        // Clients take such a reason for advice of their server.
        _ if serde_json::from_str::<serde::de::IgnoredAny>(reason).is_ok() => refuse("must not be JSON"),
        _ => Ok(()),
    }
}

impl From<Disconnect> for Parting {
    fn from(disconnect: Disconnect) -> Self {
        let default = Self::default();
        Self { code: disconnect.code.unwrap_or(default.code), reason: disconnect.reason.unwrap_or(default.reason) }
    }
}

/// Closes one connection. Every process is told; one that is not there (any more) is no error. For operators.
#[utoipa::path(post, path = "/api/v1/connections/{client}/disconnect", tag = "channels", operation_id = "close_connection",
    params(("client" = String, Path, example = "01a1fb40-f998-71ea-83d1-3bd51ccbb3da")), request_body = Disconnect,
    security(("bearer" = []), ("api_key" = [])), responses((status = 204, description = "Its process is told")))]
pub async fn close_connection(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    client: Path<String>,
    body: Body<Disconnect>,
) -> ApiResult {
    let to = Addressee { user: None, client: Some(client.into_inner()) };
    administration::disconnect(&state.ctx, &caller, to, body.value.into(), &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Closes all connections of a user: the id of an account, or what another backend's tokens call its user. For operators.
#[utoipa::path(post, path = "/api/v1/users/{id}/disconnect", tag = "channels", operation_id = "close_connections",
    params(("id" = String, Path, example = "01a1fb40-0000-7000-8000-000000000001")), request_body = Disconnect,
    security(("bearer" = []), ("api_key" = [])), responses((status = 204, description = "Every process is told")))]
pub async fn close_connections(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    user: Path<String>,
    body: Body<Disconnect>,
) -> ApiResult {
    let to = Addressee { user: Some(user.into_inner()), client: None };
    administration::disconnect(&state.ctx, &caller, to, body.value.into(), &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}
