//! What requests have to do with the connection that they come over: their bodies are read from it, and the next head is when they are answered.

use super::tap::{Body, SIP_BYTES, Tap};
use crate::state::AppState;
use actix_web::{
    Error, HttpMessage,
    body::{BodySize, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    error::PayloadError,
    http::{ConnectionType, header},
    rt::task::yield_now,
    web::Data,
};
use bytes::Bytes;
use futures_util::Stream;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// As much of a body that is no form, when it is asked for.
pub(in crate::server) const GULP_BYTES: usize = 128 << 10;
/// A body that is not larger is read without being asked for.
const SMALL_BYTES: usize = 32 << 10;

/// The head of `request` is there. Has its connection wait with the body, if that is large, until it is asked for.
pub(in crate::server) fn begin(request: &mut ServiceRequest) -> Begun {
    let Some(tap) = request.conn_data::<Tap>().cloned() else { return Begun::default() };
    let headers = request.headers();
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    let is_in_chunks = headers.contains_key(header::TRANSFER_ENCODING);
    // Chunks that are few are read without being asked for, too.
    tap.begin_request(if is_in_chunks { Body::Chunked(SIP_BYTES) } else { Body::Sized(announced) });
    if is_in_chunks || announced > SMALL_BYTES {
        let is_form = headers.get(header::CONTENT_TYPE).is_some_and(|content_type| content_type.as_bytes().starts_with(b"multipart/"));
        let n_at_once = if is_form { SIP_BYTES } else { GULP_BYTES };
        if let Some(state) = request.app_data::<Data<AppState>>().filter(|_| !is_form) {
            tap.grow(&state.grown);
        }
        if !is_in_chunks {
            tap.close();
        }
        tap.set_being_taken(true);
        let body = request.take_payload();
        let body = OnDemand { body, tap: tap.clone(), n_at_once, has_ended: false };
        request.set_payload(Payload::Stream { payload: Box::pin(body) });
    }
    Begun { tap: Some(tap), has_body: is_in_chunks || announced > 0 }
}

/// A request whose head was read.
#[derive(Debug, Default)]
pub(in crate::server) struct Begun {
    tap: Option<Tap>,
    has_body: bool,
}

impl Begun {
    #[cfg(test)]
    pub(super) fn of(tap: &Tap) -> Self {
        Self { tap: Some(tap.clone()), has_body: false }
    }

    /// Answers it. The server closes the connection behind the answer to a request whose body it has not seen: each that is refused by its head, or
    /// shed, would cost its client the connection. It asks twice for an answer before it reads on.
    pub(in crate::server) async fn answer<B>(
        self,
        answering: impl Future<Output = Result<ServiceResponse<B>, Error>>,
    ) -> Result<ServiceResponse<Answer<B>>, Error> {
        if self.has_body {
            yield_now().await;
            yield_now().await;
        }
        let until_told = UntilTold(self.tap);
        let mut response = answering.await?;
        if until_told.0.as_ref().is_some_and(Tap::is_one_too_many) {
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        Ok(response.map_body(|_, body| Answer { body, _until_told: until_told }))
    }
}

/// The body of an answer.
pub(in crate::server) struct Answer<B> {
    body: B,
    _until_told: UntilTold,
}

impl<B: MessageBody + Unpin> MessageBody for Answer<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// Only when the server has all of an answer, what is read belongs to the next request: one that comes earlier has to wait. An error's answer is
/// written from what comes back to the server, all at once.
struct UntilTold(Option<Tap>);

impl Drop for UntilTold {
    fn drop(&mut self) {
        if let Some(tap) = &self.0 {
            tap.answered();
        }
    }
}

/// A body that opens the tap while it is asked for more, and for good when nobody has it any more: what is left of a short one must be read to
/// reach what comes behind.
struct OnDemand {
    body: Payload,
    tap: Tap,
    n_at_once: usize,
    has_ended: bool,
}

impl Stream for OnDemand {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = Pin::new(&mut self.body).poll_next(cx);
        self.has_ended |= matches!(chunk, Poll::Ready(None | Some(Err(_))));
        self.tap.set_being_taken(!self.has_ended);
        self.tap.allow_chunks(usize::MAX);
        match &chunk {
            Poll::Ready(Some(_)) => self.tap.close(),
            Poll::Ready(None) | Poll::Pending => self.tap.open(self.n_at_once),
        }
        chunk
    }
}

impl Drop for OnDemand {
    fn drop(&mut self) {
        if !self.has_ended {
            self.tap.keep(self.body.take());
            self.tap.allow_chunks(SIP_BYTES);
        }
        self.tap.set_being_taken(false);
        self.tap.open(SIP_BYTES);
    }
}
