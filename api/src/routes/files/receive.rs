//! One upload on its way in: refused early where its head tells, then written to the store as it arrives, a small buffer at a time; or only
//! compared, where it was answered before.

use crate::{edge::RequestScope, extract::refuse_encoding, gate::require_unrevoked};
use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::{
    HttpRequest,
    http::header::{self, HeaderMap},
    web::Payload,
};
use futures_util::StreamExt;
use shared::{
    Caller, Code, Context, Error, Result,
    files::writing::{Comparison, Complete, NewFile, Writer},
    turns::Turn,
};
use std::time::Duration;
use tokio::time::timeout;

/// The one part of the form.
const PART: &str = "file";
/// What a form may have around its content; the parser holds no more of it either.
const AROUND_BYTES: u64 = 64 << 10;
/// What a form of ours has around its content, about: what is announced beyond it is content.
const AROUND_LEAST: u64 = 1 << 10;

/// An upload whose content is in the store, and which nobody sees yet.
pub(super) struct Received {
    pub(super) writer: Writer,
    pub(super) complete: Complete,
    /// Given back when the request is done.
    _turn: Turn,
}

impl Received {
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        fingerprint(&self.complete, self.writer.name())
    }
}

/// What makes an upload the same as another.
fn fingerprint(complete: &Complete, name: &str) -> Vec<u8> {
    [complete.sha256().as_slice(), name.as_bytes()].concat()
}

pub(super) async fn receive(ctx: &Context, caller: &Caller, request: &HttpRequest, payload: Payload) -> Result<Received> {
    let Begun { mut form, part, name, size_hint, turn } = begin(ctx, caller, request, payload).await?;
    let new = NewFile { owner_id: caller.user_id, name: &name, content_type: None, size_hint, made_by: None };
    let mut writer = open(ctx, new).await?;
    if let Some(said) = part.content_type() {
        writer.say_type(said.essence_str());
    }
    let written = match write(&mut form, part, &mut writer).await {
        Ok(complete) => require_unrevoked(request).await.map(|()| complete),
        Err(error) => Err(error),
    };
    match written {
        Ok(complete) => Ok(Received { writer, complete, _turn: turn }),
        Err(error) => {
            writer.abandon().await;
            Err(error)
        }
    }
}

/// The fingerprint of an upload that was answered before: it takes neither room nor quota, and nothing of it is written.
pub(super) async fn compare(ctx: &Context, caller: &Caller, request: &HttpRequest, payload: Payload) -> Result<Vec<u8>> {
    let Begun { mut form, part, name, turn: _turn, .. } = begin(ctx, caller, request, payload).await?;
    let mut comparison = Comparison::new(ctx, &name);
    form.content(part, async |chunk| comparison.take(chunk)).await?;
    require_unrevoked(request).await?;
    Ok(fingerprint(&comparison.complete(), comparison.name()))
}

/// An upload whose content comes next.
struct Begun {
    form: Form,
    part: Field,
    name: String,
    /// How large it is, about.
    size_hint: Option<u64>,
    turn: Turn,
}

async fn begin(ctx: &Context, caller: &Caller, request: &HttpRequest, payload: Payload) -> Result<Begun> {
    let (bytes_max, patience) = {
        let settings = ctx.settings();
        (settings.max_upload_bytes.0 as u64, Duration::from_secs(settings.api_client_timeout_s))
    };
    refuse_encoding(request)?;
    check_content_type(request.headers())?;
    let announced = announced(request.headers());
    if announced.is_some_and(|length| length > bytes_max + AROUND_BYTES) {
        return Err(Error::new(Code::BodyTooLarge, format!("A file may have {bytes_max} bytes.")));
    }
    // Uploads come at the pace of their clients, and how many may is limited apart.
    let scope = RequestScope::from_request(request);
    scope.leave_in_flight();
    let turn = ctx.files.upload_turn(caller.user_id, &*scope).await?;
    let mut form = Form { parts: Multipart::new(request.headers(), payload), patience };
    let part = form.next().await?.ok_or_else(|| broken_rule("required", "must be there, with the content"))?;
    let name = name_of(&part)?;
    let size_hint = announced.map(|length| length.min(bytes_max));
    Ok(Begun { form, part, name, size_hint, turn })
}

/// With what is announced reserved at once; where there is no room for all of that, what is around the content may make the difference.
async fn open(ctx: &Context, new: NewFile<'_>) -> Result<Writer> {
    match Writer::open(ctx, new).await {
        Err(error) if error.code == Code::QuotaExceeded && new.size_hint.is_some() => {
            Writer::open(ctx, NewFile { size_hint: new.size_hint.map(|hint| hint.saturating_sub(AROUND_LEAST)), ..new }).await
        }
        opened => opened,
    }
}

async fn write(form: &mut Form, part: Field, writer: &mut Writer) -> Result<Complete> {
    form.content(part, async |chunk| writer.write(chunk).await).await?;
    writer.complete().await
}

/// The parts as they arrive.
struct Form {
    parts: Multipart,
    /// Longest silence of the client.
    patience: Duration,
}

impl Form {
    async fn next(&mut self) -> Result<Option<Field>> {
        in_time(self.patience, self.parts.next()).await?.transpose().map_err(malformed)
    }

    /// Hands on all of `part`, which must be the last one and not be empty.
    async fn content(&mut self, mut part: Field, mut take: impl AsyncFnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut is_empty = true;
        while let Some(chunk) = in_time(self.patience, part.next()).await? {
            let chunk = chunk.map_err(malformed)?;
            is_empty &= chunk.is_empty();
            take(&chunk).await?;
        }
        // The form goes on when nobody holds its part any more.
        drop(part);
        if is_empty {
            return Err(broken_rule("empty", "must have a content"));
        }
        if self.next().await?.is_some() {
            return Err(broken_rule("single", "must be the only part of the form"));
        }
        Ok(())
    }
}

async fn in_time<T>(patience: Duration, next: impl Future<Output = T>) -> Result<T> {
    let late = |_| Error::new(Code::RequestTimeout, format!("Nothing of the body arrived for {} s.", patience.as_secs()));
    timeout(patience, next).await.map_err(late)
}

fn check_content_type(headers: &HeaderMap) -> Result<()> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(());
    }
    Err(Error::new(Code::UnsupportedMediaType, "Send `multipart/form-data` with one part called `file`."))
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The name that the part says its file has; the one in UTF-8 where there are two.
fn name_of(part: &Field) -> Result<String> {
    if part.name() != Some(PART) {
        return Err(broken_rule("required", "must be what the first part of the form is called"));
    }
    let disposition = part.content_disposition();
    let full = disposition.and_then(|disposition| Some(String::from_utf8_lossy(&disposition.get_filename_ext()?.value).into_owned()));
    let plain = || disposition.and_then(|disposition| disposition.get_filename()).map(str::to_owned);
    Ok(full.or_else(plain).unwrap_or_default())
}

fn broken_rule(code: &str, detail: &str) -> Error {
    Error::invalid("/file", code, detail)
}

fn malformed(error: MultipartError) -> Error {
    let said = error.to_string();
    Error::new(Code::InvalidMultipart, format!("The body is not a form, or broke off: {said}.")).caused_by(said)
}
