//! The public signing keys, for services that verify access tokens themselves.

use crate::{error::ApiResult, state::AppState};
use actix_web::{HttpResponse, http::header, web::Data};
use serde::Serialize;
use utoipa::ToSchema;

/// A JWK set (RFC 7517).
#[derive(Debug, Serialize, ToSchema)]
pub struct PublicKeys {
    /// Empty when tokens are signed with a shared secret.
    #[schema(example = json!([{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "0199d8c27e1a7b2c8d3e4f5a6b7c8d9e",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]))]
    #[schema(value_type = Vec<Object>)]
    keys: Vec<serde_json::Value>,
}

/// The keys that access tokens verify with.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "accounts", operation_id = "get_public_keys",
    responses((status = 200, description = "A JWK set", body = PublicKeys)))]
pub async fn get_public_keys(state: Data<AppState>) -> ApiResult {
    let keys = state.accounts.public_keys();
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=300")).json(PublicKeys { keys }))
}
