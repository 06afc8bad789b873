//! What goes through one worker thread: requests under way, and bytes of bodies in and out. Counted plainly, and told once a second:
//! threads that counted together would wait for each other's memory.

use actix_web::{
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header::CONTENT_LENGTH},
    rt,
};
use bytes::Bytes;
use metrics::{Counter, Gauge, counter, gauge};
use shared::telemetry::metrics::{HTTP_BYTES_IN, HTTP_BYTES_OUT, HTTP_IN_FLIGHT};
use std::{
    cell::Cell,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::interval;

const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Of one thread.
#[derive(Default)]
pub struct Traffic {
    worker: String,
    n_in_flight: Cell<u32>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic").finish_non_exhaustive()
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay(Rc<Traffic>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.n_in_flight.set(self.0.n_in_flight.get() - 1);
    }
}

impl Traffic {
    /// Begins to tell, for as long as the thread called `worker` lives; call it on that thread.
    pub fn start(worker: &str) -> Rc<Self> {
        let traffic = Rc::new(Self { worker: worker.to_owned(), ..Self::default() });
        let (ours, in_flight) = (Rc::clone(&traffic), gauge!(HTTP_IN_FLIGHT, "worker" => worker.to_owned()));
        rt::spawn(async move {
            let (bytes_in, bytes_out) = (counter!(HTTP_BYTES_IN), counter!(HTTP_BYTES_OUT));
            let mut ticks = interval(TOLD_EVERY);
            loop {
                ticks.tick().await;
                ours.tell(&in_flight, &bytes_in, &bytes_out);
            }
        });
        traffic
    }

    /// The thread's name.
    pub(super) fn worker(&self) -> &str {
        &self.worker
    }

    fn tell(&self, in_flight: &Gauge, bytes_in: &Counter, bytes_out: &Counter) {
        in_flight.set(f64::from(self.n_in_flight.get()));
        bytes_in.increment(self.bytes_in.take());
        bytes_out.increment(self.bytes_out.take());
    }

    /// A body counts as long as it is said to be; no body is taken that is said to be longer than `body_max`.
    pub(super) fn begin(self: &Rc<Self>, request: &ServiceRequest, body_max: u64) -> UnderWay {
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let announced = announced.filter(|length| *length <= body_max).unwrap_or(0);
        self.bytes_in.set(self.bytes_in.get().saturating_add(announced));
        self.n_in_flight.set(self.n_in_flight.get() + 1);
        UnderWay(Rc::clone(self))
    }

    /// Counts what the answer's body has, or will have had.
    pub(super) fn count<B: MessageBody + 'static>(
        self: &Rc<Self>,
        response: ServiceResponse<EitherBody<B, BoxBody>>,
    ) -> ServiceResponse<EitherBody<B, BoxBody>> {
        match response.response().body().size() {
            BodySize::None => response,
            BodySize::Sized(_) if response.request().method() == Method::HEAD => response,
            BodySize::Sized(length) => {
                self.add_out(length);
                response
            }
            BodySize::Stream => {
                let traffic = Rc::clone(self);
                response.map_body(|_, body| EitherBody::right(BoxBody::new(Counted { body: Box::pin(body), traffic })))
            }
        }
    }

    fn add_out(&self, n_bytes: u64) {
        self.bytes_out.set(self.bytes_out.get().saturating_add(n_bytes));
    }
}

/// A body of unknown length.
struct Counted<B> {
    body: Pin<Box<B>>,
    traffic: Rc<Traffic>,
}

impl<B: MessageBody> MessageBody for Counted<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        let next = std::task::ready!(self.body.as_mut().poll_next(cx));
        if let Some(Ok(bytes)) = &next {
            self.traffic.add_out(bytes.len() as u64);
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_body_that_nobody_takes_is_not_counted_by_what_is_said_of_it() {
        let traffic = Rc::new(Traffic::default());
        for announced in ["100", "4611686018427387904", "101", "none", "7"] {
            let request = TestRequest::post().insert_header((CONTENT_LENGTH, announced)).to_srv_request();
            drop(traffic.begin(&request, 100));
        }
        assert_eq!((traffic.bytes_in.get(), traffic.n_in_flight.get()), (107, 0));
    }
}
