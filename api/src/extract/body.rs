//! A JSON body: read up to its limit and in its time, looked over for text that cannot be stored, parsed, validated.

use super::{
    budget::{Reservation, holder},
    incoming::next_chunk,
};
use crate::{
    edge::RequestScope,
    error::ApiError,
    gate::{gate_of, require_unrevoked},
    state::AppState,
};
use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header,
    web::{Bytes, BytesMut, Data},
};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use shared::{Code, Error, Result, config::Settings, json_words::Broken, limits::Class, text, turns::Waiter};
use std::time::Duration;
use tokio::time::timeout;
use validator::Validate;

/// Longest that the body of a sign-in may take to arrive: it fits into one packet.
const SIGN_IN_WITHIN: Duration = Duration::from_secs(2);

/// A parsed and validated body, with the bytes it came from (an Idempotency-Key is bound to them).
#[derive(Debug)]
pub struct Body<T> {
    pub value: T,
    pub bytes: Bytes,
    /// Held as long as the bytes are.
    _reservation: Reservation,
}

impl<T> Body<T> {
    /// What it says: the bytes are let go, and what they held. For requests that go on to wait.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T: DeserializeOwned + Validate + 'static> FromRequest for Body<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, std::result::Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let (bytes, reservation) = read_json(&request, payload).await?;
            Ok(Self { value: parse(&bytes)?, bytes, _reservation: reservation })
        })
    }
}

/// A JSON body whose text is not looked over: for lists whose items are judged one by one.
#[derive(Debug)]
pub struct RawBody {
    bytes: Bytes,
    _reservation: Reservation,
}

impl RawBody {
    pub fn parse<T: DeserializeOwned + Validate>(&self) -> Result<T> {
        refuse_list(&self.bytes)?;
        let value: T = serde_json::from_slice(&self.bytes).map_err(|error| json_error(&error, &self.bytes))?;
        value.validate().map_err(Error::from)?;
        Ok(value)
    }
}

impl FromRequest for RawBody {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, std::result::Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let (bytes, reservation) = read_json(&request, payload).await?;
            Ok(Self { bytes, _reservation: reservation })
        })
    }
}

async fn read_json(request: &HttpRequest, payload: Payload) -> Result<(Bytes, Reservation)> {
    check_content_type(request)?;
    refuse_encoding(request)?;
    read(request, payload).await
}

fn check_content_type(request: &HttpRequest) -> Result<()> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(Error::new(Code::UnsupportedMediaType, "Send `Content-Type: application/json`."))
}

/// Bodies are taken as they are: what is compressed would be answered as broken JSON.
pub(crate) fn refuse_encoding(request: &HttpRequest) -> Result<()> {
    match request.headers().get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Error::new(Code::UnsupportedMediaType, "Send the body without `Content-Encoding`."))
        }
        Some(_) | None => Ok(()),
    }
}

/// Reads the whole body within the limits of its route's class.
pub(crate) async fn read(request: &HttpRequest, mut payload: Payload) -> Result<(Bytes, Reservation)> {
    let state = request.app_data::<Data<AppState>>().expect("the server registers its state");
    let (limit, patience) = {
        let settings = state.ctx.settings();
        let is_bulk = gate_of(request).is_some_and(|gate| matches!(gate.class, Some(Class::Bulk | Class::Work | Class::Ingest)));
        let limit = if is_bulk { settings.max_bulk_bytes.0 } else { settings.max_body_bytes.0 };
        (limit, patience_for(request, &settings))
    };
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let mut reservation = state.bodies.open(holder(request), announced)?;
    let collect = async {
        let mut body = BytesMut::with_capacity(announced.unwrap_or(0).min(64 << 10));
        while let Some(chunk) = next_chunk(request, &mut payload, &mut reservation).await? {
            if body.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            reservation.cover(body.len() + chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok((body.freeze(), reservation))
    };
    let late = |_| Error::new(Code::RequestTimeout, format!("The body did not arrive within {} ms.", patience.as_millis()));
    let read = timeout(patience, collect).await.map_err(late)??;
    require_unrevoked(request).await?;
    RequestScope::from_request(request).begin_work()?;
    Ok(read)
}

/// How long a body may take: what is done with it, and what went wrong, must still be told before the request's own deadline.
pub(super) fn patience(settings: &Settings) -> Duration {
    Duration::from_secs(settings.api_client_timeout_s).min(Duration::from_millis(settings.request_timeout_ms) * 3 / 4)
}

/// Strangers may send sign-ins, and theirs are short.
fn patience_for(request: &HttpRequest, settings: &Settings) -> Duration {
    let patience = patience(settings);
    let is_sign_in = gate_of(request).is_some_and(|gate| matches!(gate.class, Some(Class::Login | Class::LoginAddress)));
    if is_sign_in { patience.min(SIGN_IN_WITHIN) } else { patience }
}

pub(super) fn too_large(limit: usize) -> Error {
    Error::new(Code::BodyTooLarge, format!("The body may have {limit} bytes."))
}

/// Parses and validates JSON bytes.
pub(crate) fn parse<T: DeserializeOwned + Validate>(bytes: &[u8]) -> Result<T> {
    text::check_json_text(bytes)?;
    refuse_list(bytes)?;
    let value: T = serde_json::from_slice(bytes).map_err(|error| json_error(&error, bytes))?;
    value.validate().map_err(Error::from)?;
    Ok(value)
}

/// Refuses a list where an object is asked for: a derived `Deserialize` would take it as the fields in their order.
pub(super) fn refuse_list(json: &[u8]) -> Result<()> {
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(Error::new(Code::InvalidJson, "The body is not the JSON that was asked for: it must be an object, not a list."));
    }
    Ok(())
}

pub(crate) fn json_error(error: &serde_json::Error, json: &[u8]) -> Error {
    Broken::new(error, json).into_error("body")
}
