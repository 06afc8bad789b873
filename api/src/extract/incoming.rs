//! A large body as it arrives, within its limits of size, time and memory.

use super::{
    body::{patience, refuse_encoding, too_large},
    budget::{Reservation, holder},
    line_buffer::LineBuffer,
};
use crate::{edge::RequestScope, gate::require_unrevoked, state::AppState};
use actix_web::{HttpRequest, dev::Payload, http::header, web::Data};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use shared::{Code, Error, Result, turns::Waiter};
use std::time::Duration;
use tokio::{
    task::coop::consume_budget,
    time::{Instant, timeout_at},
};

/// What has arrived and was not taken yet is in `buffer`.
pub(super) struct Incoming {
    pub(super) buffer: LineBuffer,
    request: HttpRequest,
    payload: Option<Payload>,
    reservation: Reservation,
    bytes_left: usize,
    bytes_max: usize,
    deadline: Instant,
    patience: Duration,
}

impl Incoming {
    pub(super) fn open(request: &HttpRequest, payload: Payload) -> Result<Self> {
        let state = request.app_data::<Data<AppState>>().expect("the server registers its state");
        let settings = state.ctx.settings();
        let patience = patience(&settings);
        refuse_encoding(request)?;
        let bytes_max = settings.max_bulk_bytes.0;
        let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > bytes_max) {
            return Err(too_large(bytes_max));
        }
        Ok(Self {
            buffer: LineBuffer::default(),
            request: request.clone(),
            payload: Some(payload),
            reservation: state.bodies.open(holder(request), announced)?,
            bytes_left: bytes_max,
            bytes_max,
            deadline: Instant::now() + patience,
            patience,
        })
    }

    /// `false` at the end of the body.
    pub(super) async fn read_more(&mut self) -> Result<bool> {
        let Some(payload) = &mut self.payload else { return Ok(false) };
        let late = |_| Error::new(Code::RequestTimeout, format!("The body did not arrive within {} ms.", self.patience.as_millis()));
        let next = timeout_at(self.deadline, next_chunk(&self.request, payload, &mut self.reservation)).await.map_err(late)??;
        require_unrevoked(&self.request).await?;
        match next {
            None => {
                self.payload = None;
                Ok(false)
            }
            Some(chunk) => {
                self.bytes_left = self.bytes_left.checked_sub(chunk.len()).ok_or_else(|| too_large(self.bytes_max))?;
                self.reservation.cover(self.buffer.len() + chunk.len())?;
                self.buffer.push(&chunk);
                Ok(true)
            }
        }
    }

    pub(super) async fn read_all(&mut self) -> Result<()> {
        while self.read_more().await? {}
        self.begin_work()
    }

    /// So much has arrived as was wanted; until now the request may have waited for it.
    pub(super) fn begin_work(&self) -> Result<()> {
        RequestScope::from_request(&self.request).begin_work()
    }
}

/// The next of a body. While it is on its way its request is not in flight, until the caller begins to work.
pub(super) async fn next_chunk(request: &HttpRequest, payload: &mut Payload, reservation: &mut Reservation) -> Result<Option<Bytes>> {
    // What has come in many pieces is there all at once, and others have their turn in between.
    consume_budget().await;
    let next = match payload.next().now_or_never() {
        Some(next) => next,
        None => {
            reservation.cover_wait()?;
            RequestScope::from_request(request).begin_wait();
            payload.next().await
        }
    };
    next.transpose().map_err(|error| Error::new(Code::InvalidJson, "The body broke off.").caused_by(error.to_string()))
}
