//! Conditional requests on single objects: `ETag`, `If-None-Match` → 304, `If-Match` → 412.

use crate::error::ApiResult;
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::{Code, Error, Result};
use std::fmt::Write;

/// 200 with the object and its entity tag, or 304 when the caller has it.
pub fn answer_with_etag(request: &HttpRequest, object: &impl Serialize) -> ApiResult {
    let body = serde_json::to_vec(object).map_err(Error::internal)?;
    let etag = etag_of(&body);
    if names(request, &header::IF_NONE_MATCH, &etag) == Some(true) {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, etag)).finish());
    }
    Ok(HttpResponse::Ok().insert_header((header::ETAG, etag)).content_type("application/json").body(body))
}

/// 200 with the object, and a tag of the part of it that a change can name; what else is in it changes by itself.
pub fn answer_with_etag_of(object: &impl Serialize, tagged: &impl Serialize) -> ApiResult {
    let etag = etag_of(&serde_json::to_vec(tagged).map_err(Error::internal)?);
    Ok(HttpResponse::Ok().insert_header((header::ETAG, etag)).json(object))
}

/// Refuses a change of an object that is no longer what the caller saw.
pub fn check_if_match(request: &HttpRequest, object: &impl Serialize) -> Result<()> {
    let body = serde_json::to_vec(object).map_err(Error::internal)?;
    check_if_match_names(request, &etag_of(&body))
}

/// The same for what has this tag.
pub(crate) fn check_if_match_names(request: &HttpRequest, etag: &str) -> Result<()> {
    if names(request, &header::IF_MATCH, etag) == Some(false) {
        return Err(Error::new(Code::PreconditionFailed, "The object is no longer the one that If-Match names."));
    }
    Ok(())
}

/// Whether the header names this tag; `None` without the header.
pub(crate) fn names(request: &HttpRequest, header: &HeaderName, etag: &str) -> Option<bool> {
    let value = request.headers().get(header)?;
    let tags = value.to_str().unwrap_or_default();
    Some(tags.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == "*" || tag == etag))
}

fn etag_of(body: &[u8]) -> String {
    let hash = Sha256::digest(body);
    let mut etag = String::with_capacity(34);
    etag.push('"');
    for byte in &hash[..16] {
        write!(etag, "{byte:02x}").expect("writing to a string cannot fail");
    }
    etag.push('"');
    etag
}
