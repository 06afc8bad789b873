//! The headers that every answer leaves with.

use super::{RequestScope, scope::REQUEST_ID};
use actix_web::{
    HttpMessage,
    dev::ServiceResponse,
    http::{
        ConnectionType,
        header::{self, HeaderValue},
    },
};
use shared::Caller;

pub(super) fn finish<B>(response: &mut ServiceResponse<B>, scope: &RequestScope, is_draining: bool) {
    let is_authenticated = response.request().extensions().contains::<Caller>();
    if is_draining {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&scope.id).expect("request ids are header text"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_authenticated && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    super::compression::unmark(headers);
}
