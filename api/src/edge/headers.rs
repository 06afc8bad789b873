//! The headers that every answer leaves with.

use super::{RequestScope, scope::REQUEST_ID, traced::Traced};
use actix_web::{
    HttpMessage,
    dev::ServiceResponse,
    http::{
        ConnectionType, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};
use shared::accounts::Proof;

/// For an answer that a browser is made to show as a page: it is taken for what it says it is, runs nothing, loads nothing, stands in
/// no frame and tells nobody where it is. Our own pages have a policy that lets them run.
const FOR_BROWSERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
];

pub(super) fn finish<B>(response: &mut ServiceResponse<B>, scope: &RequestScope, is_draining: bool) {
    let has_failed = response.status().is_client_error() || response.status().is_server_error();
    let traced = Traced::of(response.request());
    let is_authenticated = response.request().extensions().contains::<Proof>();
    // The server closes the connection of who asks for another protocol, and would say that it has changed to that.
    let wants_another_protocol = response.request().head().connection_type() == ConnectionType::Upgrade;
    if is_draining || wants_another_protocol && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    name(response.headers_mut(), &scope.id);
    let headers = response.headers_mut();
    if let Some(traced) = traced {
        traced.tell(headers);
    }
    // What went wrong for one caller now is nobody's answer a minute later.
    if (is_authenticated || has_failed) && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    super::compression::unmark(headers);
}

/// The same for a request that was shed, of which no more is known than its id.
pub(super) fn finish_shed<B>(response: &mut ServiceResponse<B>, id: &str, is_draining: bool) {
    if is_draining {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    name(response.headers_mut(), id);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Its id, and what browsers are told with every answer.
fn name(headers: &mut HeaderMap, id: &str) {
    headers.insert(REQUEST_ID, HeaderValue::from_str(id).expect("request ids are header text"));
    for (name, value) in FOR_BROWSERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}
