//! Files: uploads, what is asked of them, and their contents. [`receive`]: one on its way in; [`send`]: one on its way out.

mod receive;
mod send;

use crate::{
    error::{ApiResult, Problem},
    extract::{CallerOf, Id, Meta, Query, answer_with_etag},
    idempotency::{self, Creation, OptionalKey},
    openapi::headers::{IdempotencyKeyHeader, IfMatchHeader, IfNoneMatchHeader, RangeHeaders},
    routes::BASE,
    state::AppState,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};
use receive::Received;
use serde::Deserialize;
use shared::{
    Caller, Context, Error, Result,
    files::{File, manage},
    idempotency::{Attempt, Earlier, IdempotencyKey, StoredAnswer},
    ids::FileId,
    page::{IdPageQuery, Page},
};
use utoipa::ToSchema;

/// What keys of uploads are keys of.
const ROUTE: &str = "POST /files";

/// An upload: a form of one part.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"file": "track_id,recorded_at,lat,lon\n"}))]
#[expect(dead_code, reason = "it describes the form, which is read as it arrives")]
pub struct UploadForm {
    /// The content, with its name as `filename`. Its `Content-Type` counts among kinds of text only: the rest is seen.
    #[schema(value_type = String, format = Binary, min_length = 1)]
    file: Vec<u8>,
}

/// The bytes of a file. Only the document knows this type.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it describes an answer that is sent as it is read")]
pub struct FileContent(Vec<u8>);

/// Uploads a file: `multipart/form-data` with one part called `file`, of `MAX_UPLOAD_BYTES` at most. It is hashed and stored while it
/// arrives, and seen by nobody until it is complete.
#[utoipa::path(post, path = "/api/v1/files", tag = "files", operation_id = "create_file",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    params(IdempotencyKeyHeader), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 201, description = "The file", body = File, headers(("Location" = String, description = "Where it is"))),
        (status = 409, description = "There is no room left for the caller's files, or the first request is still running",
            body = Problem<'static>, content_type = "application/problem+json"),
        (status = 410, description = "The file that was uploaded with this Idempotency-Key has been deleted since",
            body = Problem<'static>, content_type = "application/problem+json"),
        (status = 507, description = "The store is full", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn create_file(
    state: Data<AppState>,
    CallerOf(caller): CallerOf,
    OptionalKey(key): OptionalKey,
    request: HttpRequest,
    payload: Payload,
) -> ApiResult {
    let ctx = &state.ctx;
    if let Some(earlier) = earlier(ctx, &caller, key.as_ref()).await? {
        let stored = earlier.answer_to(&receive::compare(ctx, &caller, &request, payload).await?)?;
        return answer_again(ctx, &stored).await;
    }
    let mut received = receive::receive(ctx, &caller, &request, payload).await?;
    let attempt = key.map(|key| Attempt::new(caller.user_id, ROUTE, key, &received.fingerprint()));
    let creation = idempotency::create(ctx, attempt.as_ref(), async |tx| {
        let file = received.writer.record(tx, received.complete).await?;
        Ok((stored_answer(&file)?, ()))
    });
    answer(ctx, creation.await, received).await
}

async fn earlier(ctx: &Context, caller: &Caller, key: Option<&IdempotencyKey>) -> Result<Option<Earlier>> {
    let Some(key) = key else { return Ok(None) };
    shared::idempotency::earlier(&ctx.pg, caller.user_id, ROUTE, key).await
}

/// What was answered before, unless its file has been deleted since.
async fn answer_again(ctx: &Context, stored: &StoredAnswer) -> ApiResult {
    let id = stored.location.as_deref().and_then(|location| location.rsplit('/').next()?.parse().ok());
    manage::require_still_there(ctx, id.ok_or_else(|| Error::internal("an upload was answered without its place"))?).await?;
    idempotency::answer(stored, true)
}

async fn answer(ctx: &Context, creation: Result<Creation<()>>, received: Received) -> ApiResult {
    match creation {
        Ok(Creation::Fresh(stored, ())) => {
            received.writer.keep();
            idempotency::answer(&stored, false)
        }
        Ok(Creation::Replayed(stored)) => {
            received.writer.abandon().await;
            answer_again(ctx, &stored).await
        }
        Err(error) => {
            received.writer.abandon().await;
            Err(error.into())
        }
    }
}

fn stored_answer(file: &File) -> Result<StoredAnswer> {
    let location = Some(format!("{BASE}/files/{}", file.id));
    Ok(StoredAnswer { status: 201, location, body: serde_json::to_vec(file).map_err(Error::internal)? })
}

/// The caller's files, newest first. Operators see all.
#[utoipa::path(get, path = "/api/v1/files", tag = "files", operation_id = "list_files", params(IdPageQuery),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "One page of files", body = Page<File>)))]
pub async fn list_files(state: Data<AppState>, CallerOf(caller): CallerOf, Query(query): Query<IdPageQuery>) -> ApiResult {
    Ok(HttpResponse::Ok().json(state.ctx.read(async |ctx| manage::list(ctx, &caller, &query).await).await?))
}

/// What is known of a file.
#[utoipa::path(get, path = "/api/v1/files/{id}", tag = "files", operation_id = "get_file", params(("id" = FileId, Path), IfNoneMatchHeader),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "The file", body = File), (status = 304, description = "The caller has it")))]
pub async fn get_file(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<FileId>, request: HttpRequest) -> ApiResult {
    answer_with_etag(&request, &manage::get(&state.ctx, &caller, id).await?)
}

/// The content of a file, or one range of it. It is for saving: a browser neither shows it nor guesses what it is.
#[utoipa::path(get, path = "/api/v1/files/{id}/content", tag = "files", operation_id = "get_file_content",
    params(("id" = FileId, Path), IfMatchHeader, IfNoneMatchHeader, RangeHeaders), security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "All of it, as what it is", content((FileContent = "application/octet-stream"), (FileContent = "*/*"))),
        (status = 206, description = "The range", content((FileContent = "application/octet-stream"), (FileContent = "*/*")),
            headers(("Content-Range" = String, description = "Which bytes, and of how many"))),
        (status = 304, description = "The caller has it"),
        (status = 412, description = "It is not the one that `If-Match` names", body = Problem<'static>, content_type = "application/problem+json"),
        (status = 416, description = "The range lies outside of it", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn get_file_content(state: Data<AppState>, CallerOf(caller): CallerOf, Id(id): Id<FileId>, request: HttpRequest) -> ApiResult {
    let file = manage::get(&state.ctx, &caller, id).await?;
    send::send(&state.ctx, &caller, &request, file).await
}

/// Deletes a file, and its content.
#[utoipa::path(delete, path = "/api/v1/files/{id}", tag = "files", operation_id = "delete_file", params(("id" = FileId, Path)),
    security(("bearer" = []), ("api_key" = [])),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_file(state: Data<AppState>, CallerOf(caller): CallerOf, meta: Meta, Id(id): Id<FileId>) -> ApiResult {
    manage::delete(&state.ctx, &caller, id, &meta.into()).await?;
    Ok(HttpResponse::NoContent().finish())
}
