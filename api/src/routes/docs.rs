//! The OpenAPI document in both versions, and Swagger UI from the binary.

use super::probes::require_exposure;
use crate::{
    error::{ApiError, ApiResult},
    openapi,
    state::AppState,
};
use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use shared::Code;
use std::sync::{Arc, LazyLock};
use utoipa_swagger_ui::Config;

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("/api-docs/openapi.json")));

/// Swagger UI has its scripts in files and writes styles into the page. It would also have a stranger's server judge our document.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The OpenAPI 3.1 document.
pub async fn get_openapi(request: HttpRequest, state: Data<AppState>) -> ApiResult {
    require_docs(&request, &state).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(openapi::document_json()))
}

/// The same as OpenAPI 3.0, for generators that know no 3.1.
pub async fn get_openapi_3_0(request: HttpRequest, state: Data<AppState>) -> ApiResult {
    require_docs(&request, &state).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(openapi::document_3_0_json()))
}

pub async fn get_docs(request: HttpRequest, state: Data<AppState>) -> ApiResult {
    require_docs(&request, &state).await?;
    Ok(HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, "/docs/")).finish())
}

pub async fn get_docs_file(request: HttpRequest, state: Data<AppState>) -> ApiResult {
    require_docs(&request, &state).await?;
    let file = request.match_info().get("file").unwrap_or_default();
    match utoipa_swagger_ui::serve(file, Arc::clone(&CONFIG)) {
        Ok(Some(asset)) => Ok(HttpResponse::Ok()
            .content_type(asset.content_type)
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .body(asset.bytes.to_vec())),
        Ok(None) | Err(_) => Err(ApiError::new(Code::NotFound, "There is nothing at this path.")),
    }
}

async fn require_docs(request: &HttpRequest, state: &AppState) -> Result<(), ApiError> {
    let exposure = state.ctx.settings().docs;
    require_exposure(request, state, exposure).await
}
