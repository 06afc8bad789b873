//! Channels: which there are. What is published is in [`publications`], to many at once in [`broadcasts`];
//! connections are closed in [`connections`].

pub mod broadcasts;
pub mod connections;
pub mod publications;

use crate::{
    error::ApiResult,
    extract::{CallerOf, Query},
    state::AppState,
};
use actix_web::{HttpResponse, web::Data};
use serde::Deserialize;
use shared::{
    channels::listing::{self, ActiveChannel},
    page::{Page, page_request},
};
use utoipa::IntoParams;

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListChannels {
    /// Items per page: 1 or more, cut to 1000; 50 when absent.
    #[param(minimum = 1, example = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(max_length = 400)]
    cursor: Option<String>,
}

/// The channels that somebody is subscribed to, by name. For operators.
#[utoipa::path(get, path = "/api/v1/channels", tag = "channels", operation_id = "list_channels", params(ListChannels),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of channels", body = Page<ActiveChannel>)))]
pub async fn list_channels(state: Data<AppState>, CallerOf(caller): CallerOf, Query(query): Query<ListChannels>) -> ApiResult {
    let page = page_request(query.limit, query.cursor.as_deref())?;
    Ok(HttpResponse::Ok().json(listing::list(&state.ctx, &caller, &page).await?))
}
