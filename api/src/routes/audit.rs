//! The audit log, for administrators.

use crate::{
    error::ApiResult,
    extract::{CallerOf, Query},
    state::AppState,
};
use actix_web::{HttpResponse, web::Data};
use shared::{
    accounts::audit::{self, Entry},
    page::{IdPageQuery, Page},
};

/// Who did what to whom, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "accounts", operation_id = "list_audit", params(IdPageQuery),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "Entries", body = Page<Entry>)))]
pub async fn list_audit(state: Data<AppState>, CallerOf(caller): CallerOf, Query(page): Query<IdPageQuery>) -> ApiResult {
    let page = page.parse()?;
    let page = state.ctx.read(async |ctx| audit::list_audit(&state.accounts.on(ctx.clone()), &caller, &page).await).await?;
    Ok(HttpResponse::Ok().json(page))
}
