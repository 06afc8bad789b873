//! What is published on a channel: make it, read it, forget it.

use crate::{
    error::{ApiResult, Problem},
    extract::{Body, CallerOf, ChannelOf, Meta, Query},
    idempotency::{self, Creation, OptionalKey},
    openapi::headers::IdempotencyKeyHeader,
    state::AppState,
};
use actix_web::{HttpResponse, web::Data};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::{
    Code, Error, Result,
    channels::{
        Channel, Direction, EPOCH_BYTES_MAX, Filter, HISTORY_READ_MAX, History, NewPublication, Position, Publication, administration,
        persist::Archived,
        requests::{self, Requester},
    },
    clock::from_unix_ms,
    idempotency::{Attempt, IdempotencyKey, StoredAnswer},
    page::{Page, page_request},
};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use validator::Validate;

/// A publication to be made.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"data": {"text": "hello"}, "tags": {"lang": "en"}}))]
pub struct Publish {
    /// Any JSON, as large as the channel's namespace allows.
    #[schema(value_type = serde_json::Value)]
    pub(super) data: Box<RawValue>,
    #[serde(default)]
    pub(super) tags: Option<BTreeMap<String, String>>,
    /// The same key within five minutes answers with the first publication's position and publishes nothing.
    #[serde(default)]
    #[validate(length(min = 1, max = 255))]
    #[schema(min_length = 1, max_length = 255)]
    pub(super) idempotency_key: Option<String>,
    /// Sends it to those who listen now and keeps it nowhere: its offset is 0.
    #[serde(default)]
    pub(super) skip_history: Option<bool>,
}

/// Where a publication stands in its channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct Published {
    /// 0 when the channel keeps no history, or this was published past it.
    #[schema(minimum = 0, example = 8)]
    offset: u64,
    #[schema(example = "5f3a9c01")]
    epoch: String,
}

impl From<&Position> for Published {
    fn from(position: &Position) -> Self {
        Self { offset: position.offset, epoch: position.epoch.to_string() }
    }
}

/// Which publications to read.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ReadHistory {
    /// Those after this offset, or before it in reverse.
    since_offset: Option<u64>,
    /// The epoch of `since_offset`: 409 when the channel has begun another.
    #[param(max_length = 64)]
    since_epoch: Option<String>,
    /// Publications at most: cut to 300, 50 when absent; 0 reads the position alone.
    #[param(minimum = 0, example = 50)]
    limit: Option<i64>,
    /// Newest first.
    reverse: Option<bool>,
}

/// Publications of a channel, and where it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct Publications {
    publications: Vec<PublicationView>,
    #[schema(minimum = 0, example = 8)]
    offset: u64,
    #[schema(example = "5f3a9c01")]
    epoch: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PublicationView {
    #[schema(minimum = 0, example = 8)]
    offset: u64,
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    /// Who published it; absent for a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::Present>, nullable = false)]
    info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>, nullable = false)]
    tags: Option<Box<RawValue>>,
    #[serde(with = "time::serde::rfc3339")]
    published_at: OffsetDateTime,
}

/// Publishes on a channel: whoever is subscribed has it when the answer comes, or soon after. With an Idempotency-Key the answer
/// is kept for 24 hours, and a repeat publishes nothing.
#[utoipa::path(post, path = "/api/v1/channels/{channel}/publications", tag = "channels", operation_id = "create_publication",
    request_body = Publish, params(("channel" = String, Path, example = "chat:lobby"), IdempotencyKeyHeader),
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 201, description = "It is published", body = Published),
        (status = 409, description = "The first request with this Idempotency-Key is still running", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn create_publication(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    OptionalKey(key): OptionalKey,
    ChannelOf(channel): ChannelOf,
    body: Body<Publish>,
) -> ApiResult {
    let mut publish = body.value;
    let publish_now = async |publish: &Publish| {
        let position = requests::publish_for(&state.ctx, Requester::Account(&caller), &channel, &publish.new_publication()?).await;
        Ok::<_, Error>(Published::from(&position.map_err(Error::from)?))
    };
    let Some(key) = key else {
        return Ok(HttpResponse::Created().json(publish_now(&publish).await?));
    };
    publish.take_key(&key);
    let attempt = attempt(caller.user_id, key, &channel, &body.bytes);
    let creation = idempotency::create_once(&state.ctx, &attempt, async |_| {
        let body = serde_json::to_vec(&publish_now(&publish).await?).map_err(Error::internal)?;
        Ok((StoredAnswer { status: 201, location: None, body }, ()))
    });
    match creation.await? {
        Creation::Fresh(stored, ()) => idempotency::answer(&stored, false),
        Creation::Replayed(stored) => idempotency::answer(&stored, true),
    }
}

impl Publish {
    pub(super) fn new_publication(&self) -> Result<NewPublication<'_>> {
        Ok(NewPublication {
            tags: self.tags.as_ref(),
            idempotency_key: self.idempotency_key.as_deref(),
            skip_history: self.skip_history.unwrap_or_default(),
            ..NewPublication::new(&self.data)?
        })
    }

    /// Until the answer is stored, the channel itself knows a repeat.
    pub(super) fn take_key(&mut self, key: &IdempotencyKey) {
        self.idempotency_key.get_or_insert_with(|| key.as_str().to_owned());
    }
}

/// The channel is part of what must be the same.
fn attempt(principal: shared::ids::UserId, key: IdempotencyKey, channel: &Channel, body: &[u8]) -> Attempt {
    Attempt::new(principal, "POST /channels/publications", key, &[channel.name.as_str().as_bytes(), b"\n", body].concat())
}

/// What is kept of a channel, oldest first.
#[utoipa::path(get, path = "/api/v1/channels/{channel}/publications", tag = "channels", operation_id = "list_publications",
    params(("channel" = String, Path, example = "chat:lobby"), ReadHistory), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "Publications, and the channel's position", body = Publications),
        (status = 409, description = "The channel keeps no history, or has begun another epoch", body = Problem<'static>,
            content_type = "application/problem+json")))]
pub async fn list_publications(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    ChannelOf(channel): ChannelOf,
    Query(query): Query<ReadHistory>,
) -> ApiResult {
    let history = requests::history_for(&state.ctx, Requester::Account(&caller), &channel, &query.filter()?).await.map_err(Error::from)?;
    Ok(HttpResponse::Ok().json(Publications::try_from(history)?))
}

impl ReadHistory {
    fn filter(&self) -> Result<Filter> {
        let invalid = |detail| Err(Error::new(Code::InvalidQuery, detail));
        let limit = match self.limit.unwrap_or(50) {
            ..0 => return invalid("`limit` must be 0 or more."),
            limit => u32::try_from(limit).unwrap_or(u32::MAX).min(HISTORY_READ_MAX),
        };
        if self.since_epoch.as_ref().is_some_and(|epoch| epoch.len() > EPOCH_BYTES_MAX) {
            return invalid("`since_epoch` is not one that a channel gave out.");
        }
        let since = (self.since_offset.is_some() || self.since_epoch.is_some())
            .then(|| Position::new(self.since_offset.unwrap_or(0), self.since_epoch.as_deref().unwrap_or_default()));
        let direction = if self.reverse.unwrap_or_default() { Direction::Reverse } else { Direction::Forward };
        Ok(Filter { limit, since, direction })
    }
}

impl TryFrom<History> for Publications {
    type Error = Error;

    fn try_from(history: History) -> Result<Self> {
        let publications = history.publications.into_iter().map(PublicationView::try_from).collect::<Result<_>>()?;
        Ok(Self { publications, offset: history.position.offset, epoch: history.position.epoch.to_string() })
    }
}

impl TryFrom<Publication> for PublicationView {
    type Error = Error;

    fn try_from(publication: Publication) -> Result<Self> {
        #[derive(Deserialize)]
        struct Kept {
            data: Box<RawValue>,
            info: Option<Box<RawValue>>,
            tags: Option<Box<RawValue>>,
        }
        let Kept { data, info, tags } = serde_json::from_slice(&publication.body).map_err(Error::internal)?;
        let published_at = from_unix_ms(publication.published_at_ms).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Ok(Self { offset: publication.offset, data, info, tags, published_at })
    }
}

/// Which part of the archive to read.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ReadArchive {
    /// Publications at most: 1 or more, cut to 300; 50 when absent.
    #[param(minimum = 1, example = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before: those that are older.
    #[param(max_length = 400)]
    cursor: Option<String>,
}

/// A publication of any of a channel's epochs.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArchivedPublication {
    #[schema(example = "5f3a9c01")]
    epoch: String,
    #[serde(flatten)]
    publication: PublicationView,
}

/// What was written to the database of a persisted channel, newest first: across epochs, so after any restart of Redis. The last
/// second's publications may not be there yet. A page may hold fewer than `limit` where they are large.
#[utoipa::path(get, path = "/api/v1/channels/{channel}/archive", tag = "channels", operation_id = "list_archive",
    params(("channel" = String, Path, example = "chat:lobby"), ReadArchive), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "One page of publications", body = Page<ArchivedPublication>),
        (status = 409, description = "The channel is not persisted", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn list_archive(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    ChannelOf(channel): ChannelOf,
    Query(query): Query<ReadArchive>,
) -> ApiResult {
    let request = page_request(query.limit, query.cursor.as_deref())?;
    let page = requests::archive_for(&state.ctx, Requester::Account(&caller), &channel, &request).await.map_err(Error::from)?;
    let items = page.items.into_iter().map(ArchivedPublication::try_from).collect::<Result<Vec<_>>>()?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: page.next_cursor }))
}

impl TryFrom<Archived> for ArchivedPublication {
    type Error = Error;

    fn try_from(archived: Archived) -> Result<Self> {
        Ok(Self { epoch: archived.epoch.to_string(), publication: archived.publication.try_into()? })
    }
}

/// Forgets what is kept of a channel. Its position stays, so that who missed something of it is told. For operators.
#[utoipa::path(delete, path = "/api/v1/channels/{channel}/publications", tag = "channels", operation_id = "delete_publications",
    params(("channel" = String, Path, example = "chat:lobby")), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 204, description = "Nothing of it is kept"),
        (status = 409, description = "The channel keeps no history", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn delete_publications(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    meta: Meta,
    ChannelOf(channel): ChannelOf,
) -> ApiResult {
    administration::remove_history(&state.ctx, &caller, &channel, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}
