//! From a GET request to a socket: who is refused is refused here, as a problem, before the upgrade.

use super::{
    body::SocketBody,
    connection::{Driver, Wire},
    hub::Hub,
    limits::refused,
};
use crate::{
    error::{ApiError, ApiResult, Problem},
    server::OpenConnection,
    state::AppState,
};
use actix_http::ws;
use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    body::BoxBody,
    dev::Payload,
    http::{
        Uri,
        header::{self, HeaderMap, HeaderValue},
    },
    web::Data,
};
use shared::{Code, Error, Result};
use std::{
    future::{Ready, ready},
    rc::Rc,
    time::Duration,
};

/// The one subprotocol that is ours. Most clients name none, and may.
const SUBPROTOCOL: &str = "centrifuge-json";

/// What the client sends after the request's head.
pub struct Received(Payload);

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Received").finish_non_exhaustive()
    }
}

impl FromRequest for Received {
    type Error = ApiError;
    type Future = Ready<std::result::Result<Self, ApiError>>;

    fn from_request(_: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self(payload.take())))
    }
}

/// Opens a socket that speaks the Centrifugo client protocol, version 2, in JSON: `docs/asyncapi.yaml`.
#[utoipa::path(get, path = "/connection/websocket", tag = "realtime", operation_id = "open_socket",
    responses(
        (status = 101, description = "A socket from here on"),
        (status = 400, description = "Not a WebSocket handshake", body = Problem<'static>, content_type = "application/problem+json"),
        (status = 403, description = "The page's origin is not allowed", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn open_socket(request: HttpRequest, Received(payload): Received, state: Data<AppState>) -> ApiResult {
    let mut response = ws::handshake(request.head()).map_err(handshake_error)?;
    check_origin(request.headers(), &state)?;
    if state.drain.has_begun() {
        return Err(Error::new(Code::Draining, "This process is stopping.").retry_after(Duration::from_secs(1)).into());
    }
    let place = state.sockets.enter()?;
    if offers_our_subprotocol(request.headers()) {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL));
    }
    let hub = request.app_data::<Rc<Hub>>().expect("the server registers a hub on each thread");
    let wire = Wire::new(request.conn_data::<OpenConnection>().and_then(OpenConnection::socket));
    let driver = Driver::new(hub.open(wire, place));
    let response =
        response.message_body(BoxBody::new(SocketBody::new(driver, payload))).map_err(|error| Error::internal(error.to_string()))?;
    Ok(HttpResponse::from(response))
}

fn handshake_error(error: ws::HandshakeError) -> Error {
    Error::new(Code::InvalidHeader, "This path takes a WebSocket handshake, version 13.").caused_by(error.to_string())
}

/// Pages of foreign origins are refused, as a browser would let them use its user's network. What is no browser sends no
/// origin.
fn check_origin(headers: &HeaderMap, state: &AppState) -> Result<()> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let settings = state.ctx.settings();
    let listed = if settings.ws_origins.0.is_empty() { &settings.cors_origins.0 } else { &settings.ws_origins.0 };
    let origin = origin.to_str().unwrap_or_default();
    if is_same_host(origin, headers.get(header::HOST)) || listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin)) {
        return Ok(());
    }
    drop(refused("origin", ""));
    Err(Error::new(Code::Forbidden, "Pages of this origin may not open sockets here; WS_ORIGINS lists those that may."))
}

fn is_same_host(origin: &str, host: Option<&HeaderValue>) -> bool {
    let origin = origin.parse::<Uri>().ok();
    let authority = origin.as_ref().and_then(Uri::authority);
    authority.zip(host).is_some_and(|(authority, host)| authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()))
}

fn offers_our_subprotocol(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
    offers.flat_map(|value| value.split(',')).any(|offer| offer.trim() == SUBPROTOCOL)
}
