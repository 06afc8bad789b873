//! Callbacks: what receivers say of jobs that they took with 202. The token in the path is all that they need.

use crate::{
    error::ApiResult,
    extract::{Body, Id},
    state::AppState,
};
use actix_web::{HttpResponse, web::Data};
use shared::{
    endpoints::callbacks::{self, Callback},
    jobs::Job,
};

/// Settles a job that waits for its receiver, once. A token that is unknown, used or too late is a 404, each like the others.
#[utoipa::path(post, path = "/api/v1/callbacks/{token}", tag = "endpoints", operation_id = "settle_callback", request_body = Callback,
    params(("token" = String, Path, description = "As `webhook-callback` of the delivery has it")),
    responses((status = 200, description = "The job as it is now", body = Job)))]
pub async fn settle_callback(state: Data<AppState>, Id(token): Id<String>, body: Body<Callback>) -> ApiResult {
    Ok(HttpResponse::Ok().json(callbacks::settle(&state.ctx, &token, body.value).await?))
}
