//! Channels: which there are, and who is on them. What is published is in [`publications`], to many at once in [`broadcasts`];
//! connections are closed in [`connections`].

pub mod broadcasts;
pub mod connections;
pub mod publications;

use crate::{
    error::{ApiResult, Problem},
    extract::{CallerOf, ChannelOf, Query},
    state::AppState,
};
use actix_web::{HttpResponse, web::Data};
use serde::{Deserialize, Serialize};
use shared::{
    Error,
    channels::{
        listing::{self, ActiveChannel},
        presence::PresenceList,
        requests::{self, Requester},
    },
    page::{Page, page_request},
};
use utoipa::{IntoParams, ToSchema};

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

/// Connections by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct Presence {
    #[schema(value_type = BTreeMap<String, Present>)]
    presence: PresenceList,
}

/// One connection on a channel. Only the document knows this type.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "infos are passed on as they are kept")]
pub struct Present {
    /// `""` for an anonymous one.
    user: String,
    client: String,
    /// What came with the connection's token.
    #[schema(nullable = false)]
    conn_info: Option<serde_json::Value>,
    /// What came with the subscription's token.
    #[schema(nullable = false)]
    chan_info: Option<serde_json::Value>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PresenceStats {
    #[schema(minimum = 0, example = 2)]
    num_clients: u64,
    #[schema(minimum = 0, example = 1)]
    num_users: u64,
}

/// The channels that somebody is subscribed to, by name. For operators.
#[utoipa::path(get, path = "/api/v1/channels", tag = "channels", operation_id = "list_channels", params(ListChannels),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of channels", body = Page<ActiveChannel>)))]
pub async fn list_channels(state: Data<AppState>, CallerOf(caller): CallerOf, Query(query): Query<ListChannels>) -> ApiResult {
    let page = page_request(query.limit, query.cursor.as_deref())?;
    Ok(HttpResponse::Ok().json(listing::list(&state.ctx, &caller, &page).await?))
}

/// Who is subscribed to a channel now.
#[utoipa::path(get, path = "/api/v1/channels/{channel}/presence", tag = "channels", operation_id = "get_presence",
    params(("channel" = String, Path, example = "chat:lobby")), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "The connections: up to 5000, and 4 MiB of their ids and infos", body = Presence),
        (status = 409, description = "The channel keeps no presence", body = Problem<'static>, content_type = "application/problem+json"),
        (status = 422, description = "More are present than can be listed; `presence-stats` counts them", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn get_presence(state: Data<AppState>, CallerOf(caller): CallerOf, ChannelOf(channel): ChannelOf) -> ApiResult {
    let presence = requests::presence_for(&state.ctx, Requester::Account(&caller), &channel).await.map_err(Error::from)?;
    Ok(HttpResponse::Ok().json(Presence { presence }))
}

/// How many are subscribed to a channel now.
#[utoipa::path(get, path = "/api/v1/channels/{channel}/presence-stats", tag = "channels", operation_id = "get_presence_stats",
    params(("channel" = String, Path, example = "chat:lobby")), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "Connections, and users of them", body = PresenceStats),
        (status = 409, description = "The channel keeps no presence", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn get_presence_stats(state: Data<AppState>, CallerOf(caller): CallerOf, ChannelOf(channel): ChannelOf) -> ApiResult {
    let stats = requests::presence_stats_for(&state.ctx, Requester::Account(&caller), &channel).await.map_err(Error::from)?;
    Ok(HttpResponse::Ok().json(PresenceStats { num_clients: stats.num_clients, num_users: stats.num_users }))
}
