//! From a GET request to a socket: who is refused is refused here, as a problem, before the upgrade.

use super::{
    connection::{Driver, Wire},
    hub::Hub,
    limits::{Place, refused},
    serve::serve,
};
use crate::{
    edge::RequestScope,
    error::{ApiError, ApiResult, Problem},
    server::OpenConnection,
    state::AppState,
};
use actix_http::ws;
use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, ResponseError,
    http::{
        Uri,
        header::{self, HeaderMap, HeaderValue},
    },
    rt::{self, net::TcpStream},
    web::Data,
};
use bytes::Bytes;
use shared::{Code, Error, Result};
use std::{cell::RefCell, net::IpAddr, rc::Rc, time::Duration};

/// The one subprotocol that is ours. Most clients name none, and may.
const SUBPROTOCOL: &str = "centrifuge-json";

/// Goes with a request whose connection can be taken over; the handler that wants it puts in what takes it.
#[derive(Debug, Clone, Default)]
pub struct Ticket(Rc<RefCell<Option<Opening>>>);

impl Ticket {
    pub fn opening(&self) -> Option<Opening> {
        self.0.take()
    }
}

/// A socket that has been let in.
#[derive(Debug)]
pub struct Opening {
    hub: Rc<Hub>,
    address: IpAddr,
    place: Place,
}

impl Opening {
    /// Begins to serve it, on the thread's runtime. `early` is what the client sent behind its request.
    pub fn begin(self, stream: TcpStream, early: Bytes) {
        let counted = OpenConnection::count(&stream);
        let driver = Driver::new(self.hub.open(self.address, Wire::new(stream), self.place));
        rt::spawn(async move {
            serve(driver, early).await;
            drop(counted);
        });
    }
}

/// Opens a socket that speaks the Centrifugo client protocol, version 2, in JSON: `docs/asyncapi.yaml`.
#[utoipa::path(get, path = "/connection/websocket", tag = "realtime", operation_id = "open_socket",
    responses(
        (status = 101, description = "A socket from here on"),
        (status = 400, description = "Not a WebSocket handshake", body = Problem<'static>, content_type = "application/problem+json"),
        (status = 403, description = "The page's origin is not allowed", body = Problem<'static>, content_type = "application/problem+json"),
        (status = 503, description = "There are as many sockets as may be, or the process stops; `Retry-After` says when to come back",
            body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn open_socket(request: HttpRequest, state: Data<AppState>) -> ApiResult {
    let mut response = match ws::handshake(request.head()) {
        Ok(response) => response,
        Err(error) => return Ok(no_handshake(error.to_string())),
    };
    if has_body(request.headers()) {
        return Err(Error::new(Code::InvalidHeader, "A WebSocket handshake has no body.").into());
    }
    let Some(ticket) = request.extensions().get::<Ticket>().cloned() else {
        return Ok(no_handshake("the connection cannot be upgraded"));
    };
    check_origin(request.headers(), &state)?;
    if state.drain.has_begun() {
        return Err(Error::new(Code::Draining, "This process is stopping.").retry_after(Duration::from_secs(1)).into());
    }
    let place = state.sockets.enter()?;
    if offers_our_subprotocol(request.headers()) {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL));
    }
    let hub = request.app_data::<Rc<Hub>>().expect("the server registers a hub on each thread");
    let address = RequestScope::from_request(&request).address;
    ticket.0.replace(Some(Opening { hub: Rc::clone(hub), address, place }));
    Ok(HttpResponse::from(response.finish().map_into_boxed_body()))
}

/// What follows would be a body to a proxy and frames to us: a client could hide the one in the other.
fn has_body(headers: &HeaderMap) -> bool {
    let is_empty = |length: &HeaderValue| length.to_str().is_ok_and(|length| length.trim().parse() == Ok(0_u64));
    headers.contains_key(header::TRANSFER_ENCODING) || headers.get_all(header::CONTENT_LENGTH).any(|length| !is_empty(length))
}

/// Says which version would do, as RFC 6455 asks for in section 4.4.
fn no_handshake(why: impl Into<String>) -> HttpResponse {
    let error = Error::new(Code::InvalidHeader, "This path takes a WebSocket handshake, version 13.").caused_by(why.into());
    let mut response = ApiError::from(error).error_response();
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// Pages of foreign origins are refused, as a browser would let them use its user's network. What is no browser sends no
/// origin.
fn check_origin(headers: &HeaderMap, state: &AppState) -> Result<()> {
    let mut origins = headers.get_all(header::ORIGIN);
    let Some(origin) = origins.next() else { return Ok(()) };
    let settings = state.ctx.settings();
    let listed = if settings.ws_origins.0.is_empty() { &settings.cors_origins.0 } else { &settings.ws_origins.0 };
    // A browser sends one: which of several counts is not for us to guess.
    let origin = origin.to_str().ok().filter(|_| origins.next().is_none()).unwrap_or_default();
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
