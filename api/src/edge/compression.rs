//! Which answers are compressed: those above 1 KiB. The compressor has no threshold of its own, so small answers are
//! marked as already encoded before it sees them, and the mark is taken off behind it.

use actix_web::{
    body::{BodySize, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderValue},
};

/// Smaller answers cost more to compress than to send.
const THRESHOLD_BYTES: u64 = 1_024;

/// Drops an `Accept-Encoding` that forbids everything: we answer plainly rather than with 406.
pub fn forgive_accept_encoding(request: &mut ServiceRequest) {
    let forbids =
        request.headers().get(header::ACCEPT_ENCODING).is_some_and(|value| value.to_str().map_or(true, |text| text.contains("q=0")));
    if forbids {
        request.headers_mut().remove(header::ACCEPT_ENCODING);
    }
}

pub fn mark_small<B: MessageBody>(response: &mut ServiceResponse<B>) {
    let is_small = match response.response().body().size() {
        BodySize::None => true,
        BodySize::Sized(bytes) => bytes < THRESHOLD_BYTES,
        BodySize::Stream => false,
    };
    if is_small && !response.headers().contains_key(header::CONTENT_ENCODING) {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
    }
}

pub(super) fn unmark(headers: &mut HeaderMap) {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|value| value == "identity") {
        headers.remove(header::CONTENT_ENCODING);
    }
}
